//! The paths of the API: what lies where below `/apps/{id}`, by which method.

use hyper::{Method, StatusCode};

use super::Refused;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Publish,
    PublishBatch,
    Channels,
    Channel,
    Users,
    History,
    Terminate,
    Status,
}

struct Route {
    method: Method,
    /// Parts of the path below `/apps/{id}/`; `*` is the route's parameter.
    parts: &'static [&'static str],
    /// Its name in metrics.
    name: &'static str,
    call: Call,
}

const fn route(method: Method, parts: &'static [&'static str], name: &'static str, call: Call) -> Route {
    Route { method, parts, name, call }
}

static ROUTES: [Route; 8] = [
    route(Method::POST, &["events"], "/apps/{id}/events", Call::Publish),
    route(Method::POST, &["batch_events"], "/apps/{id}/batch_events", Call::PublishBatch),
    route(Method::GET, &["channels"], "/apps/{id}/channels", Call::Channels),
    route(Method::GET, &["channels", "*"], "/apps/{id}/channels/{channel}", Call::Channel),
    route(Method::GET, &["channels", "*", "users"], "/apps/{id}/channels/{channel}/users", Call::Users),
    route(Method::GET, &["channels", "*", "history"], "/apps/{id}/channels/{channel}/history", Call::History),
    route(
        Method::POST,
        &["users", "*", "terminate_connections"],
        "/apps/{id}/users/{user}/terminate_connections",
        Call::Terminate,
    ),
    route(Method::GET, &["status"], "/apps/{id}/status", Call::Status),
];

/// A route that was found, with what its path says.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) call: Call,
    /// The route's name in metrics.
    pub(super) name: &'static str,
    pub(super) app: String,
    /// The channel or user in the path; empty where the route has none.
    pub(super) parameter: String,
}

/// Why nothing was found: the refusal, the route's name in metrics, and the method that the path takes.
pub(super) struct Missed {
    pub(super) refused: Refused,
    pub(super) name: &'static str,
    pub(super) allow: Option<&'static Method>,
}

/// `path`: as requested. Its parts are told apart first and percent-decoded then, so that a `%2F` is no slash.
pub(super) fn find(method: &Method, path: &str) -> Result<Found, Missed> {
    let nothing = || {
        let text = format!("There is nothing at {}", path.chars().take(200).collect::<String>());
        Missed { refused: Refused(StatusCode::NOT_FOUND, text), name: "other", allow: None }
    };
    let parts: Vec<&str> = path.strip_prefix("/apps/").ok_or_else(nothing)?.split('/').collect();
    let (app, rest) = parts.split_first().ok_or_else(nothing)?;
    let route = ROUTES.iter().find(|route| fits(route.parts, rest)).ok_or_else(nothing)?;
    if method != route.method {
        let text = format!("{} takes {} only", route.name, route.method);
        let refused = Refused(StatusCode::METHOD_NOT_ALLOWED, text);
        return Err(Missed { refused, name: route.name, allow: Some(&route.method) });
    }
    let decoded = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8().map(String::from);
    let parameter = route.parts.iter().position(|part| *part == "*").map_or("", |at| rest[at]);
    match (decoded(app), decoded(parameter)) {
        (Ok(app), Ok(parameter)) => Ok(Found { call: route.call, name: route.name, app, parameter }),
        _ => {
            let refused = Refused::bad("The path is not UTF-8 when it is percent-decoded");
            Err(Missed { refused, name: route.name, allow: None })
        }
    }
}

fn fits(route: &[&str], parts: &[&str]) -> bool {
    let same = |(route, part): (&&str, &&str)| route == part || (*route == "*" && !part.is_empty());
    route.len() == parts.len() && route.iter().zip(parts).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_calls() {
        let find = |method: Method, path: &str| {
            find(&method, path)
                .map(|found| (found.call, found.app, found.parameter))
                .map_err(|missed| (missed.refused.0.as_u16(), missed.allow.map(Method::as_str)))
        };
        let found = |call, parameter: &str| Ok((call, "1".to_owned(), parameter.to_owned()));
        assert_eq!(find(Method::POST, "/apps/1/events"), found(Call::Publish, ""));
        assert_eq!(find(Method::GET, "/apps/1/channels"), found(Call::Channels, ""));
        assert_eq!(find(Method::GET, "/apps/1/channels/a.b"), found(Call::Channel, "a.b"));
        assert_eq!(
            find(Method::GET, "/apps/1/channels/%23server-to-user-1"),
            found(Call::Channel, "#server-to-user-1")
        );
        assert_eq!(find(Method::GET, "/apps/%31/channels/users/users"), found(Call::Users, "users"));
        assert_eq!(find(Method::GET, "/apps/1/channels/a/history"), found(Call::History, "a"));
        assert_eq!(find(Method::POST, "/apps/1/users/a%2Fb/terminate_connections"), found(Call::Terminate, "a/b"));
        assert_eq!(find(Method::GET, "/apps/1/status"), found(Call::Status, ""));
        assert_eq!(find(Method::PUT, "/apps/1/channels/x"), Err((405, Some("GET"))));
        assert_eq!(find(Method::GET, "/apps/1/users/x/terminate_connections"), Err((405, Some("POST"))));
        assert_eq!(find(Method::GET, "/apps/1/channels/%ff"), Err((400, None)));
        for path in ["/", "/apps", "/apps/1", "/apps/1/", "/apps/1/channels/", "/apps/1/channels//users", "/apps/1/x"] {
            assert_eq!(find(Method::GET, path), Err((404, None)), "{path}");
        }
    }
}
