"""What was served: the prediction log and its windows."""
