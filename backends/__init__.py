"""The stores, one module each, and the table of URL schemes that opens them."""
