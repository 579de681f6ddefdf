"""The algorithms, one module per lesson: generated from notebooks/ by `make export`, never edited by hand."""
