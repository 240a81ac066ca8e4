//! `laravel-echo-server.json`: each key taken or named, and the words that its users type.

use crate::support::folder::Folder;
use crate::support::node::bare_command;
use crate::support::prelude::*;
use crate::support::tls::{Authority, Files};

/// What `check-config` makes of the file and a `.env` beside it: its code, what it prints and what it says.
fn checked(file: &Value, env: &str) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let json = folder.write("echo.json", &serde_json::to_string_pretty(file).unwrap());
    let mut command = bare_command();
    command.args(["check-config", "--laravel-echo-server", &json]);
    let env_file = folder.write(".env", env);
    if !env.is_empty() {
        command.args(["--env-file", &env_file]);
    }
    let output = command.output().unwrap();
    let plain = |bytes| String::from_utf8(bytes).unwrap().replace(&json, "echo.json").replace(&env_file, ".env");
    (output.status.code(), plain(output.stdout), plain(output.stderr))
}

/// What lines of settings say, and where they came from.
fn understood(file: &Value, env: &str, expected: &[(&str, &str)]) {
    let (code, out, said) = checked(file, env);
    assert_eq!(code, Some(0), "{said}");
    for (assignment, source) in expected {
        let line = out.lines().find(|line| line.starts_with(&format!("{assignment} ")));
        assert!(line.is_some_and(|line| line.ends_with(&format!("# {source}"))), "{assignment} {source}: {out}");
    }
    assert!(!out.contains("hush") && !said.contains("hush"), "{out}{said}");
}

/// What `laravel-echo-server init` writes, with nothing changed.
fn fresh() -> Value {
    json!({
        "authHost": "http://localhost", "authEndpoint": "/broadcasting/auth", "clients": [], "database": "redis",
        "databaseConfig": { "redis": {}, "sqlite": { "databasePath": "/database/laravel-echo-server.sqlite" } },
        "devMode": true, "host": null, "port": "6001", "protocol": "http", "socketio": {}, "secureOptions": 67108864,
        "sslCertPath": "", "sslKeyPath": "", "sslCertChainPath": "", "sslPassphrase": "",
        "subscribers": { "http": true, "redis": true },
        "apiOriginAllow": { "allowCors": false, "allowOrigin": "", "allowMethods": "", "allowHeaders": "" },
    })
}

#[test]
fn a_fresh_file_starts_a_node() {
    understood(
        &fresh(),
        "",
        &[
            ("server.listen = \"0.0.0.0:6001\"", "echo.json port"),
            ("redis.url = \"redis://127.0.0.1:6379\"", "echo.json databaseConfig.redis"),
            ("apps.main.id = \"laravel\"", "default of echo.json"),
            ("apps.main.key = \"laravel\"", "default of echo.json"),
            ("apps.main.redis_prefix = \"\"", "default of echo.json"),
            ("apps.main.auth_url = \"http://localhost/broadcasting/auth\"", "echo.json authHost"),
            ("apps.main.secret = \"***\"", "made at this start"),
            ("log.level = \"debug\"", "echo.json devMode"),
        ],
    );
    let (_, _, said) = checked(&fresh(), "");
    for part in
        ["FANFARE_APPS__MAIN__SECRET", "databaseConfig.sqlite: is not needed", "secureOptions", "apiOriginAllow"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn each_key_means_what_it_meant() {
    let mut file = fresh();
    file["authHost"] = json!(["http://a.test", "https://b.test/"]);
    file["authEndpoint"] = json!("/auth");
    file["clients"] = json!([{ "appId": "x1", "key": "hush1" }, { "appId": "x2", "key": "hush2" }]);
    file["databaseConfig"] = json!({ "redis": {
        "sentinels": [{ "host": "s1", "port": 7 }, { "host": "s2" }], "name": "m", "password": "hush3", "db": 2,
        "keyPrefix": "shop_", "sentinelPassword": "hush4",
    } });
    file["host"] = json!("127.0.0.1");
    file["socketio"] = json!({
        "path": "socket", "pingInterval": 10_000, "pingTimeout": "5000", "maxHttpBufferSize": 7000,
        "transports": ["websocket"],
    });
    let auth = "http://a.test/auth,https://b.test/auth";
    understood(
        &file,
        "",
        &[
            ("server.listen = \"127.0.0.1:6001\"", "echo.json host"),
            ("apps.main.id = \"x1\"", "echo.json clients[0].appId"),
            ("apps.main.key = \"x1\"", "echo.json clients[0].appId"),
            ("apps.main.echo_clients = \"***\"", "echo.json clients"),
            ("apps.main.auth_url = \"http://a.test/auth\"", "echo.json authHost"),
            (&format!("apps.main.auth_urls = {auth:?}"), "echo.json authHost"),
            ("redis.url = \"redis+sentinel://:***@s1:7,s2:26379/m/2\"", "echo.json databaseConfig.redis.password"),
            ("apps.main.redis_prefix = \"shop_\"", "echo.json databaseConfig.redis.keyPrefix"),
            ("socket_io.path = \"/socket\"", "echo.json socketio.path"),
            ("socket_io.ping_interval = 10", "echo.json socketio.pingInterval"),
            ("socket_io.ping_timeout = 5", "echo.json socketio.pingTimeout"),
            ("socket_io.body_bytes = 7000", "echo.json socketio.maxHttpBufferSize"),
            ("socket_io.polling = false", "echo.json socketio.transports"),
        ],
    );
}

#[test]
fn what_is_not_taken_is_named() {
    let named = |key: &str, value: Value, expected: &str| {
        let mut file = fresh();
        file[key] = value;
        let (code, _, said) = checked(&file, "");
        assert!(code == Some(0) && said.contains(expected), "{expected}: {said}");
    };
    named("autHost", json!("x"), "echo.json autHost: is not known, and passed over; did you mean \"authHost\"?");
    named("databaseConfig", json!({ "publishPresence": true }), "webhooks of member_added and member_removed");
    named("databaseConfig", json!({ "redis": { "hots": "x" } }), "did you mean \"host\"?");
    named("headers", json!({ "X": "y" }), "headers: is not supported");
    named("database", json!("sqlite"), "database: is not needed");
    named("subscribers", json!({ "http": false }), "subscribers.http: is not supported");
    named("sslCertPath", json!("/x"), "sslCertPath: is of no use");
    for option in ["cookie", "perMessageDeflate", "httpCompression", "upgradeTimeout", "origins", "serveClient"] {
        named("socketio", json!({ option: true }), &format!("socketio.{option}: "));
    }
    named("socketio", json!({ "allowUpgrades": false }), "socketio.allowUpgrades: is not supported");
}

#[test]
fn what_cannot_be_served_is_refused() {
    let refused = |file: &Value, expected: &[&str]| {
        let (code, out, said) = checked(file, "");
        assert!(code == Some(2) && out.is_empty(), "{said}");
        expected.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
    };
    let mut file = fresh();
    file["protocol"] = json!("https");
    file["sslPassphrase"] = json!("hush");
    refused(&file, &["\"sslCertPath\": ", "sslPassphrase: tls.key_file: is for a key that wants one", "openssl pkey"]);
    assert!(!checked(&file, "").2.contains("hush"));
    file = fresh();
    file["port"] = json!("many");
    refused(&file, &["echo.json port: server.listen: "]);
    refused(&json!([]), &["echo.json: is no JSON object"]);
    let folder = Folder::new();
    let broken = folder.write("echo.json", "{\n\"a\": hush\n}");
    let output = bare_command().args(["check-config", "--laravel-echo-server", &broken]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("echo.json:2:") && !said.contains("hush"), "{said}");
    let missing = bare_command().args(["--laravel-echo-server", "/no/such/file"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn laravels_env_stands_above_the_file_and_its_own_variables_above_both() {
    let mut file = fresh();
    let object = file.as_object_mut().unwrap();
    object.remove("authHost");
    object.remove("authEndpoint");
    let env = "APP_NAME=Shop\nAPP_KEY=hush\nAPP_URL=http://app.test\nREDIS_HOST=r\nREDIS_PREFIX=p_\n\
               LARAVEL_ECHO_SERVER_PORT=7001\nLARAVEL_ECHO_SERVER_DEBUG=false\n";
    understood(
        &file,
        env,
        &[
            ("apps.main.secret = \"***\"", "derived from APP_KEY at .env:2"),
            ("apps.main.auth_url = \"http://app.test/broadcasting/auth\"", "derived from APP_URL at .env:3"),
            ("redis.url = \"redis://r:6379\"", ".env:4 REDIS_HOST"),
            ("apps.main.redis_prefix = \"p_\"", ".env:5 REDIS_PREFIX"),
            ("server.listen = \"0.0.0.0:7001\"", ".env:6 LARAVEL_ECHO_SERVER_PORT"),
        ],
    );
    assert!(!checked(&file, env).1.contains("also_listen"), "with a prefix there is nothing to guess");
    file["databaseConfig"] = json!({ "redis": { "keyPrefix": "", "host": "own" } });
    file["authHost"] = json!("http://auth.test");
    let more = format!("{env}LARAVEL_ECHO_SERVER_REDIS_HOST=${{LATER}}\nLATER=other\n");
    understood(
        &file,
        &more,
        &[
            ("apps.main.auth_url = \"http://auth.test/broadcasting/auth\"", "echo.json authHost"),
            ("apps.main.redis_prefix = \"\"", "echo.json databaseConfig.redis.keyPrefix"),
            ("redis.url = \"redis://other:6379\"", ".env:8 LARAVEL_ECHO_SERVER_REDIS_HOST"),
        ],
    );
}

#[test]
fn a_chain_is_read_behind_the_certificate() {
    let authority = Authority::new("private");
    let files = Files::with(&authority.certify());
    let chain = files.folder.write("chain.pem", &authority.pem());
    let mut file = fresh();
    file["protocol"] = json!("https");
    file["sslCertPath"] = json!(files.certificate);
    file["sslKeyPath"] = json!(files.key);
    file["sslCertChainPath"] = json!(chain);
    understood(&file, "", &[(&format!("tls.chain_file = {chain:?}"), "echo.json sslCertChainPath")]);
    for (content, expected) in [("nothing", "holds no certificate in PEM"), ("", "holds no certificate in PEM")] {
        files.folder.write("chain.pem", content);
        let (code, _, said) = checked(&file, "");
        assert!(code == Some(2) && said.contains("tls.chain_file") && said.contains(expected), "{said}");
    }
}

#[test]
fn its_commands_are_answered_with_what_to_do_here() {
    for (words, said) in [
        (&["init"][..], "print-config --defaults"),
        (&["start", "--dir", "/x", "--force", "--dev"], "--laravel-echo-server laravel-echo-server.json"),
        (&["stop"], "SIGTERM"),
        (&["client:add", "x"], "echo_clients"),
        (&["client:remove", "x"], "echo_clients"),
    ] {
        let output = bare_command().args(words).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains(said), "{words:?}: {told}");
    }
}

#[test]
fn what_the_settings_call_a_list_may_be_one() {
    let told = |line: &str| {
        let folder = Folder::new();
        let text = format!("[apps.main]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n{line}\n");
        let path = folder.write("fanfare.toml", &text);
        let mut command = bare_command();
        let output = command.args(["check-config", "--config"]).arg(path).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    told("echo_clients = [\"APPID:KEY\"]");
    told("auth_urls = [\"https://shop.example/broadcasting/auth\"]");
}
