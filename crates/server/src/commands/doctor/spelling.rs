//! How Laravel spells names in Redis: what of a topic or key is the prefix, and what is behind it.
//!
//! Nothing in a name says where the prefix ends, so these are guesses by what Laravel does by default: a slug of the
//! application's name and `_database_`, since Laravel 12.1 `-database-`.

const SPELLINGS: [&str; 2] = ["_database_", "-database-"];
const KINDS: [&str; 2] = ["private-", "presence-"];

/// The prefix of a name that begins as Laravel's names do by default.
pub(super) fn of_laravel(name: &str) -> Option<&str> {
    let end = SPELLINGS.iter().filter_map(|spelling| Some(name.find(spelling)? + spelling.len())).min()?;
    let is_slug = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    name[..end].bytes().all(is_slug).then(|| &name[..end])
}

/// The likeliest prefix of a topic, and the channel behind it.
pub(super) fn split(topic: &str) -> (&str, &str) {
    let kind = || KINDS.iter().filter_map(|kind| topic.find(kind)).min();
    let colon = || topic.rfind(':').map(|at| at + 1).filter(|at| *at < topic.len());
    let end = of_laravel(topic).map(str::len).or_else(kind).or_else(colon).unwrap_or(0);
    topic.split_at(end)
}

/// Whether a topic is a channel of the app with this prefix, and not by accident: with no prefix at all, everything is.
pub(super) fn belongs(topic: &str, prefix: &str) -> bool {
    match topic.strip_prefix(prefix) {
        None | Some("") => false,
        Some(_) if split(topic).0 == prefix => true,
        Some(rest) if prefix.is_empty() => of_laravel(rest).is_none() && !KINDS.iter().any(|kind| rest.contains(kind)),
        Some(rest) => of_laravel(rest).is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_split_where_laravel_would() {
        for (topic, prefix, channel) in [
            ("laravel_database_orders", "laravel_database_", "orders"),
            ("my-shop-database-private-orders.1", "my-shop-database-", "private-orders.1"),
            ("_database_x", "_database_", "x"),
            ("shop:private-orders", "shop:", "private-orders"),
            ("shop_presence-room.1", "shop_", "presence-room.1"),
            ("shop:orders", "shop:", "orders"),
            ("orders", "", "orders"),
            ("private-orders", "", "private-orders"),
            ("a_database_private-x_database_y", "a_database_", "private-x_database_y"),
        ] {
            assert_eq!(split(topic), (prefix, channel));
        }
        assert_eq!(of_laravel("shop_database_queues:default"), Some("shop_database_"));
        assert_eq!(of_laravel("Backup of my_database_1"), None);
        assert_eq!(of_laravel("shop:orders"), None);
    }

    #[test]
    fn a_topic_belongs_to_the_app_of_its_prefix() {
        for (topic, prefix) in [
            ("laravel_database_orders", "laravel_database_"),
            ("laravel_database_my-private-orders", "laravel_database_"),
            ("shop:a:b", "shop:"),
            ("orders", ""),
            ("private-orders", ""),
            ("shop:orders", ""),
        ] {
            assert!(belongs(topic, prefix), "{topic} {prefix}");
        }
        for (topic, prefix) in [
            ("shop_database_orders", "laravel_database_"),
            ("laravel_database_orders", ""),
            ("laravel_database_orders", "laravel-database-"),
            ("shop:private-orders", ""),
            ("shop_shop_database_orders", "shop_"),
            ("shop:", "shop:"),
        ] {
            assert!(!belongs(topic, prefix), "{topic} {prefix}");
        }
    }
}
