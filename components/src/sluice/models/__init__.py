"""What is shipped: network, encoder and bundle, where bundles lie, and the requests that they answer."""
