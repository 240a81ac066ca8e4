//! Black-box tests of the whole: real nodes, real Redis, real clients. And `tidy`, which tests the house itself.

mod bad_input;
mod commands;
mod metrics;
mod plain;
mod pusher;
mod shutdown;
// Some of it waits for the tests that need Redis.
#[allow(dead_code, unused_imports)]
mod support;
mod tidy;
