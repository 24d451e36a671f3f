use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Target {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    text.parse::<Target>().expect_err(text).to_string()
}

#[test]
fn every_part_is_found_and_decoded() {
    let target = parse("ETCD://ap%40p:p%2Fw%3A@a.b:1,[::1]:2,c,[::2]/project/t%65st?ttl=1s&prefix=%2Fa+b&stale");
    assert_eq!((target.scheme(), target.user(), target.password()), ("etcd", Some("ap@p"), Some("p/w:")));
    assert_eq!(target.hosts(), ["a.b:1", "[::1]:2", "c", "[::2]"]);
    assert_eq!((target.path(), target.service().unwrap().as_str()), ("/project/test", "project/test"));
    let mut options = target.options();
    assert_eq!(
        (options.text("ttl"), options.text("prefix"), options.text("stale")),
        (Some("1s"), Some("/a b"), Some(""))
    );
}

#[test]
fn what_is_optional_may_be_absent() {
    let target = parse("memory:///project/test");
    assert_eq!((target.user(), target.password(), target.hosts().len()), (None, None, 0));
    target.options().finish().unwrap();

    let target = parse("redis://:pw@h/s");
    assert_eq!((target.user(), target.password()), (None, Some("pw")));
    let target = parse("etcd://only@h/s");
    assert_eq!((target.user(), target.password()), (Some("only"), None));
}

#[test]
fn a_path_may_be_more_than_a_service() {
    let target = parse("file:///run/my%20board/project/test");
    assert_eq!(target.path(), "/run/my board/project/test");
    let error = target.service().unwrap_err().to_string();
    assert!(error.contains("path: service name \"run/my board/project/test\""), "{error}");
    assert!(parse("etcd://h//s").service().is_err(), "one '/' is trimmed, not two");
}

#[test]
fn a_socket_as_a_host_stays_encoded() {
    assert_eq!(parse("consul://%2Frun%2Fconsul.sock/s").hosts(), ["%2Frun%2Fconsul.sock"]);
}

#[test]
fn bad_urls_are_refused_with_the_part_and_the_reason() {
    for (text, why) in [
        ("", "no '://'"),
        ("project/test", "no '://'"),
        ("etcd:/h/s", "no '://'"),
        ("://h/s", "scheme: it begins"),
        ("3tcd://h/s", "scheme: it begins"),
        ("et cd://h/s", "scheme: it begins"),
        ("etcd://h", "path: it names the service"),
        ("etcd://h/", "path: it names the service"),
        ("etcd://h?x=1", "path: it names the service"),
        ("etcd://h/%zz", "path: a '%'"),
        ("etcd://h/%2", "path: a '%'"),
        ("etcd://h/%ff", "path: it is not UTF-8"),
        ("etcd://u%@h/s", "user: a '%'"),
        ("etcd://u:%ff@h/s", "password: it is not UTF-8"),
        ("etcd://u@/s", "host: there is none after the '@'"),
        ("etcd://a,,b/s", "host: it is empty"),
        ("etcd://http://a:2379/s", "a second '://'"),
        ("etcd://https://a/s", "a second '://'"),
        ("etcd://:80/s", "host: it is empty"),
        ("etcd://a b/s", "host: allowed are"),
        ("etcd://a%2/s", "host: allowed are"),
        ("etcd://a:/s", "host: its port"),
        ("etcd://a:0/s", "host: its port"),
        ("etcd://a:65536/s", "host: its port"),
        ("etcd://a:+1/s", "host: its port"),
        ("etcd://::1/s", "brackets"),
        ("etcd://[::1/s", "a '[' has no ']'"),
        ("etcd://[a]/s", "not an IPv6 address"),
        ("etcd://[::1]80/s", "followed by something other"),
        ("etcd://[::1]:x/s", "host: its port"),
        ("etcd://h/s@t", "written %40"),
        ("etcd://h/s?x=a@b", "written %40"),
        ("etcd://h/s#x", "written %23"),
        ("etcd://h/s\n", "control character"),
        ("etcd://h/s?x=%f", "query: a '%'"),
        ("etcd://h/s?x=%ff", "query: it is not UTF-8"),
        ("etcd://h/s?x=1&y=2&%78=3", "query: a key is in it twice"),
    ] {
        let error = refused(text);
        assert!(error.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn a_bad_url_is_shown_without_its_secrets() {
    for (text, shown) in [
        ("etcd://u:hunter2@h:x/s", "etcd://u:***@h:x/s"),
        ("etcd://u:hun/ter2@h/s", "etcd://u:***@h/s"),
        ("etcd://u:hun?ter2@h/s", "etcd://u:***"),
        ("etcd://u:hun@ter2@h:x/s", "etcd://u:***@h:x/s"),
        ("u:hunter2@h/s", "u:***@h/s"),
        ("etcd://h:x/s?Token=hunter2&ttl=1s", "etcd://h:x/s?Token=***&ttl=***"),
        ("etcd://h:x/s?pass=hunter2&ttl", "etcd://h:x/s?pass=***&ttl"),
        ("etcd://h:x/s?%74oken=hunter2", "etcd://h:x/s?%74oken=***"),
        ("etcd://h/s?token=hun@ter2", "etcd://***"),
        ("consul://hunter2@h:x/s", "consul://***@h:x/s"),
        ("hunter2@h/s", "***@h/s"),
        ("consul://hunter2@h:80/s?tag=a@b", "consul://***"),
        ("consul://hunter2@h:80/s@b", "consul://***@b"),
        ("consul://hun/ter2@h/s", "consul://***@h/s"),
    ] {
        let error = refused(text);
        assert!(error.starts_with(&format!("URL {shown:?}: ")), "{text:?}: {error}");
    }
}

#[test]
fn options_are_read_by_type() {
    let target = parse("x:///s?a=15s&b=250ms&c=2m&d=1h&n=18446744073709551615&yes&also=true&no=false");
    let mut options = target.options();
    for (key, seconds) in [("a", 15.0), ("b", 0.25), ("c", 120.0), ("d", 3600.0)] {
        assert_eq!(options.duration(key).unwrap(), Some(Duration::from_secs_f64(seconds)));
    }
    assert_eq!(options.number("n").unwrap(), Some(u64::MAX));
    assert_eq!(["yes", "also", "no"].map(|key| options.flag(key).unwrap()), [Some(true), Some(true), Some(false)]);
    let (duration, number, flag, text) = ("absent-duration", "absent-number", "absent-flag", "absent");
    assert_eq!(options.duration(duration).unwrap(), None);
    assert_eq!((options.number(number).unwrap(), options.flag(flag).unwrap(), options.text(text)), (None, None, None));
    options.finish().unwrap();
}

#[test]
fn a_bad_value_is_refused_with_key_value_and_expected_form() {
    for value in ["", "15", "s", "-1s", "+1s", "1.5s", "15 s", "1d", "18446744073709551615h", "99999999999999999999s"] {
        let target = parse(&format!("x:///s?ttl={}", value.replace('+', "%2B")));
        let error = target.options().duration("ttl").unwrap_err().to_string();
        assert!(error.contains(&format!("query key \"ttl\": {value:?}")) && error.contains("15s"), "{error}");
    }
    for value in ["", "x", "-1", "%2B1", "18446744073709551616"] {
        let error = parse(&format!("x:///s?n={value}")).options().number("n").unwrap_err().to_string();
        assert!(error.contains("query key \"n\"") && error.contains("a whole number"), "{error}");
    }
    for value in ["1", "yes", "TRUE"] {
        let error = parse(&format!("x:///s?f={value}")).options().flag("f").unwrap_err().to_string();
        assert!(error.contains(&format!("query key \"f\": {value:?}")) && error.contains("true or false"), "{error}");
    }
    let target = parse("x:///s?token=hunter2");
    let error = target.options().number("token").unwrap_err().to_string();
    assert!(!error.contains("hunter2") && error.contains("query key \"token\""), "{error}");
}

#[test]
fn unknown_keys_are_named_with_those_that_were_asked_for() {
    let target = parse("x:///s?ttl=1s&blancer=x&z=1");
    let mut options = target.options();
    let read = |options: &mut TargetOptions<'_>| (options.text("ttl").is_some(), options.text("balancer").is_some());
    assert_eq!((read(&mut options), read(&mut options)), ((true, false), (true, false)));
    let error = options.finish().unwrap_err().to_string();
    assert!(error.ends_with("unknown query keys \"blancer\", \"z\" (known here: balancer, ttl)"), "{error}");
    let error = parse("x:///s?z=1").options().finish().unwrap_err().to_string();
    assert!(error.ends_with("unknown query key \"z\" (known here: none)"), "{error}");
}

#[test]
fn a_value_is_shown_where_its_key_was_asked_for_and_nowhere_else() {
    let target = parse("x:///s?ttl=1s&pas=hunter2&api_key=hunter2&user_pass=hunter2");
    let hidden = "x:///s?ttl=***&pas=***&api_key=***&user_pass=***";
    assert_eq!((target.to_string(), format!("{target:?}")), (hidden.to_owned(), format!("Target({hidden:?})")));
    let mut options = target.options();
    assert!(options.invalid("ttl", "more").to_string().contains(&format!("{hidden:?}: query key \"ttl\": \"***\"")));
    let _ = ["ttl", "api_key", "user_pass"].map(|key| options.text(key));
    let shown = "x:///s?ttl=1s&pas=***&api_key=***&user_pass=***";
    for (error, why) in [
        (options.invalid("ttl", "more"), "query key \"ttl\": \"1s\" is not"),
        (options.invalid("api_key", "more"), "query key \"api_key\": \"***\" is not"),
        (
            options.finish().expect_err("an unknown key"),
            "unknown query key \"pas\" (known here: api_key, ttl, user_pass)",
        ),
    ] {
        assert!(error.to_string().contains(&format!("URL {shown:?}: {why}")), "{error}");
    }
}

/// All that a target, or what became of it, shows to anybody.
fn everything_shown(text: &str) -> String {
    let target = match text.parse::<Target>() {
        Ok(target) => target,
        Err(error) => return format!("{error} {error:?} {}", error.chain()),
    };
    let mut options = target.options();
    let errors =
        [options.number("token").map(drop), options.flag("x").map(drop), target.service().map(drop), options.finish()];
    format!("{target} {target:?} {:?} {errors:?}", target.options())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}|[a-z]{1,3}://[a-z0-9@:/?%#&=,.\\[\\]]{0,60}") {
        if let Ok(target) = text.parse::<Target>() {
            let _ = (target.service(), target.options().number("a"), target.options().finish());
        }
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_target(
        user in proptest::option::of("\\PC{1,10}"), password: bool, hosts in "|([a-z0-9.]{1,9}|\\[::[0-9a-f]{1,4}\\])(:[1-9][0-9]{0,3})?(,[a-z]{1,5}){0,2}",
        path in "\\PC{1,20}", query in proptest::collection::btree_set("\\PC{1,8}", 0..4),
    ) {
        let with_login = !hosts.is_empty();
        let target = Target {
            scheme: "etcd".into(),
            user: user.filter(|_| with_login).map(|user| if password { user } else { MASK.into() }),
            password: (password && with_login).then(|| MASK.into()),
            hosts: hosts.split(',').filter(|host| !host.is_empty()).map(Into::into).collect(),
            path: format!("/{path}"),
            query: query.into_iter().map(|key| (key, MASK.into())).collect(),
        };
        let printed = target.to_string();
        prop_assert_eq!(printed.parse::<Target>().map_err(|error| error.to_string()), Ok(target), "{}", printed);
    }

    #[test]
    fn no_secret_is_shown_wherever_and_however_it_stands(before in "[ -~]{0,6}", after in "[ -~]{0,6}", port in "|:80|:x", more in "|&x=1|&token=2|&") {
        let secret = format!("{before}hunter2{after}");
        for text in [
            format!("etcd://user:{secret}@host{port}/s?x=1{more}"),
            format!("etcd://:{secret}@host{port}?x=%{more}"),
            format!("consul://{}@host{port}/s?x=1{more}", secret.replace(':', "")),
            format!("etcd://host{port}/s%?{more}&token={}", secret.replace('&', "")),
            format!("etcd://host{port}/a b?x=2{more}&token={}", secret.replace('&', "")),
            format!("etcd://user:{secret}@host{port}/s?token={}", secret.replace('&', "")),
            format!("etcd://host{port}/s?n=1{more}&pas={}", secret.replace('&', "")),
        ] {
            prop_assert!(!everything_shown(&text).contains("hunter2"), "{}\n{}", text, everything_shown(&text));
        }
    }
}
