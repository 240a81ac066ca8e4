//! Stories of the topic table.
