"""The model server and the collector: KServe's protocols over our bundles."""
