"""The `lower86::` operators: schema, fake, and the short reference that defines each. Defined on first use."""
