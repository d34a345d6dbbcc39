"""One cell: build, train, measure."""
