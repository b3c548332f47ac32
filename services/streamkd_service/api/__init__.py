"""The HTTP side: REST, server-sent events, metrics and the built-in page. Knows the Controller only by its port."""
