"""What tests share: builders, servers, and the cluster; a test imports this and the code, never another test."""
