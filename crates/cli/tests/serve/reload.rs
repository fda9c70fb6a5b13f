//! SIGHUP.

use crate::{QUICK, Serve, target};
use rustix::process::Signal;
use surus_testkit::Server;

#[test]
fn targets_come_and_go_and_a_wrong_configuration_changes_nothing() {
    let server = Server::start();
    let mut serve = Serve::watching(&server, "");
    serve.until_value(r#"pg_up{instance="shop"}"#, 1.0);

    serve.write("conf.d/more.toml", &target("more", &server));
    serve.signal(Signal::HUP);
    serve.until_logged("+ target more = ");
    serve.until_value(r#"pg_up{instance="more"}"#, 1.0);

    serve.write("conf.d/more.toml", "[[tarjet]]\n");
    serve.signal(Signal::HUP);
    serve.until_logged("did you mean");
    assert!(serve.log().contains("nothing was reloaded"), "{}", serve.log());
    serve.until_value(r#"pg_up{instance="more"}"#, 1.0);

    serve.write("conf.d/more.toml", "[serve]\nlisten = '127.0.0.1:1'\n");
    serve.write("surus.toml", &format!("{}{}", QUICK.replace("'2s'", "'3s'"), target("shop", &server)));
    serve.signal(Signal::HUP);
    serve.until_logged("- target more = ");
    serve.until_logged("~ observe.detail = 2s -> 3s");
    serve.until("the series has ended", |serve| serve.value(r#"pg_up{instance="more"}"#).is_none());
    serve.until_value(r#"pg_up{instance="shop"}"#, 1.0);
    assert!(serve.stop().success(), "{}", serve.log());
}
