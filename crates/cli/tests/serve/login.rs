//! Who may ask.

use crate::{SECRET, Serve};
use surus_testkit::peer::http;

/// base64 of `surus:` and [`SECRET`].
const BASIC: &str = "Basic c3VydXM6WmVicmEtNzctcGxhaW50ZXh0";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn guarded() -> Serve {
    let mut serve = Serve::prepared("");
    let password = serve.write("password", &format!("{SECRET}\n"));
    // A target that is not there: what is asked for here has nothing to do with one.
    serve.write(
        "surus.toml",
        &format!(
            "[serve]\npassword = 'file:{password}'\ntoken = 'env:SERVE_TOKEN'\n\
             [[target]]\nname = 'none'\ndsn = 'host=/nowhere'\n"
        ),
    );
    serve.start_with(|command| command.env("SERVE_TOKEN", "a-token"));
    serve
}

fn status(serve: &Serve, path: &str, headers: &[(&str, &str)]) -> u16 {
    http(serve.port, "GET", path, headers, "").unwrap().status
}

#[test]
fn nothing_is_said_without_a_login() {
    let serve = guarded();
    for path in ["/metrics", "/api/v1/query?query=1", "/", "/collectors", "/probe?target=none", "/nothing"] {
        assert_eq!(status(&serve, path, &[]), 401, "{path}");
        assert_eq!(status(&serve, path, &[("Authorization", "Basic c3VydXM6d3Jvbmc=")]), 401, "{path}");
    }
    for path in ["/-/healthy", "/-/ready", "/login"] {
        assert_eq!(status(&serve, path, &[]), 200, "{path}");
    }
    assert_eq!(status(&serve, "/static/nothing", &[]), 404);
    let page = http(serve.port, "GET", "/collectors?a=b", &[("Accept", "text/html")], "").unwrap();
    assert!(page.status == 303 && page.head.contains("location: /login?next=%2fcollectors%3fa%3db"), "{}", page.head);
}

#[test]
fn password_token_and_cookie_open_the_door() {
    let serve = guarded();
    assert_eq!(status(&serve, "/metrics", &[("Authorization", BASIC)]), 200);
    assert_eq!(status(&serve, "/metrics", &[("Authorization", "Bearer a-token")]), 200);
    // With a login, another name for the machine is fine.
    assert_eq!(status(&serve, "/metrics", &[("Authorization", BASIC), ("Host", "db.example")]), 200);
    let form = format!("password={SECRET}&next=%2Fcollectors");
    let came = http(serve.port, "POST", "/login", &[FORM], &form).unwrap();
    assert!(came.status == 303 && came.head.contains("location: /collectors"), "{came:?}");
    assert!(came.head.contains("httponly; samesite=strict"), "{}", came.head);
    // The head is in lower case, and the cookie's value is not.
    let raw = raw_cookie(&serve, &form);
    assert_eq!(status(&serve, "/collectors", &[("Cookie", &raw)]), 200);
    let left = http(serve.port, "POST", "/logout", &[FORM, ("Cookie", &raw)], "").unwrap();
    assert_eq!(left.status, 303);
    assert_eq!(status(&serve, "/collectors", &[("Cookie", &raw)]), 401);
    // From another site nothing is done.
    let foreign = [FORM, ("Origin", "https://evil.example")];
    assert_eq!(http(serve.port, "POST", "/login", &foreign, &form).unwrap().status, 403);
    let away = format!("password={SECRET}&next=%2F%2Fevil.example");
    assert!(http(serve.port, "POST", "/login", &[FORM], &away).unwrap().head.contains("location: /\r\n"));
}

fn raw_cookie(serve: &Serve, form: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", serve.port)).unwrap();
    let request = format!(
        "POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (_, cookie) = text.split_once("set-cookie: ").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn who_guesses_waits() {
    let serve = guarded();
    for _ in 0..10 {
        assert_eq!(status(&serve, "/metrics", &[("Authorization", "Bearer wrong")]), 401);
    }
    assert_eq!(status(&serve, "/metrics", &[("Authorization", "Bearer wrong")]), 429);
    let guess = http(serve.port, "POST", "/login", &[FORM], "password=guess").unwrap();
    assert!(guess.status == 429 && guess.head.contains("retry-after: 60"), "{guess:?}");
    assert!(serve.log().contains("wrong password or token"), "{}", serve.log());
}
