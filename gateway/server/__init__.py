"""How the gateway runs: a supervisor, its workers, their logs. Design §7."""
