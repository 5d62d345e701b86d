"""Pure decisions: everything comes in as arguments, `now` included; no clock, no await, no import of a door."""
