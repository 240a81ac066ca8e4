//! .
mod redis_url;
pub use redis_url::{BadRedisUrl, RedisUrl};
