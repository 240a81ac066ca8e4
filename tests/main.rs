//! Black-box tests of the whole: real nodes, real Redis, real clients. And `tidy`, which tests the house itself.

mod api;
mod bad_input;
mod cluster;
mod commands;
mod conversation;
<<<<<<< Updated upstream
mod frames;
=======
mod counts;
>>>>>>> Stashed changes
mod gateway_auth;
mod isolation;
mod laravel;
mod metrics;
mod order;
mod outage;
mod plain;
mod presence;
mod property;
mod pusher;
mod pusher_js;
mod reload;
mod rfc6455;
mod shutdown;
mod support;
mod tidy;
mod tls;
mod traps;
mod users;
mod webhooks;
