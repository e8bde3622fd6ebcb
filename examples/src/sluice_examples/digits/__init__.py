"""Ten classes of handwritten digits: a task of images that is no flight, without a feature store."""
