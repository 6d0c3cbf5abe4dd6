"""select() -> analysis -> bounds -> plan -> rows."""
