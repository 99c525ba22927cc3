"""What `hardwire demo` needs besides the product: a broker, a mail server, a few alerts."""
