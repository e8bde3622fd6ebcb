"""The model server and the collector: KFServing protocol over our bundles."""
