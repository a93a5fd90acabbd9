//! Blobs and buckets against a real server, and against servers that are gone, silent or careless.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use dih_core::{Class, Classify, Secret, chain, ports::Blobs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    contract::{self, sample::key, weed::WeedServer},
    s3::bucket::{self, Done, Keep, SetUp},
};

/// A server that is not there must be given up within this, with the patience of [`hasty`].
const BOUND: Duration = Duration::from_secs(20);
const KEEP: Keep = Keep { noncurrent_days: NonZeroU32::MIN };

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_the_contract() {
    let mut server = WeedServer::start().await;
    let options = server.options("dih-contract");
    a_bucket_is_made_once_and_then_left_as_it_is(&options).await;
    let fresh = AtomicUsize::new(0);
    let make = async || {
        let prefix = format!("store/{}", fresh.fetch_add(1, Ordering::Relaxed));
        Arc::new(ObjectBlobs::s3(&Options { prefix, ..options.clone() }).expect("opens")) as Arc<dyn Blobs>
    };
    contract::blobs(make).await;
    contract::links(make).await;
    two_prefixes_do_not_see_each_other(&options).await;
    a_form_takes_one_file_and_none_that_is_too_large(&options).await;
    who_is_not_known_is_refused_with_a_remedy(&options).await;
    a_bucket_that_is_not_there_is_refused_with_a_remedy(&options).await;
    rules_of_others_are_left_alone(&server).await;
    a_certificate_is_trusted_only_where_it_is_named(&server).await;
    server.kill();
    a_server_that_is_gone_is_given_up_in_time(&options).await;
}

async fn a_bucket_is_made_once_and_then_left_as_it_is(options: &Options) {
    assert!(!bucket::exists(options).await.expect("answers"));
    let made = SetUp { bucket: Done::Made, versioning: Done::Made, rules: Done::Made };
    assert_eq!(bucket::set_up(options, KEEP).await.expect("sets up"), made);
    let found = SetUp { bucket: Done::Found, versioning: Done::Found, rules: Done::Found };
    assert_eq!(bucket::set_up(options, KEEP).await.expect("sets up"), found);
    let longer = Keep { noncurrent_days: NonZeroU32::new(9).expect("not zero") };
    let changed = bucket::set_up(options, longer).await.expect("sets up");
    assert_eq!(changed, SetUp { rules: Done::Made, ..found });
}

async fn rules_of_others_are_left_alone(server: &WeedServer) {
    let options = server.options("dih-shared");
    let of = |prefix: &str| Options { prefix: prefix.into(), ..options.clone() };
    assert_eq!(bucket::set_up(&of("theirs"), KEEP).await.expect("sets up").rules, Done::Made);
    assert_eq!(bucket::set_up(&of("ours"), KEEP).await.expect("sets up").rules, Done::LeftAlone);
    assert_eq!(bucket::set_up(&of("theirs"), KEEP).await.expect("sets up").rules, Done::Found);
}

async fn a_certificate_is_trusted_only_where_it_is_named(server: &WeedServer) {
    let named = server.tls_options("dih-tls");
    bucket::set_up(&named, KEEP).await.expect("sets up");
    let blobs = ObjectBlobs::s3(&named).expect("opens");
    blobs.put(&key("a"), Bytes::from_static(b"1")).await.expect("writes");
    assert_eq!(blobs.get(&key("a")).await.expect("reads"), "1");
    let unnamed = hasty(&Options { ca_file: None, ..named });
    let refused = ObjectBlobs::s3(&unnamed).expect("opens").get(&key("a")).await.expect_err("not trusted");
    for refused in [refused, bucket::exists(&unnamed).await.expect_err("not trusted")] {
        assert_eq!(refused.class(), Class::Halt, "{}", chain(&refused));
        assert!(refused.to_string().contains("stores.s3.ca_file"), "{refused}");
    }
}

async fn two_prefixes_do_not_see_each_other(options: &Options) {
    let open = |prefix: &str| ObjectBlobs::s3(&Options { prefix: prefix.into(), ..options.clone() }).expect("opens");
    let (one, other) = (open("one"), open("one-more"));
    one.put(&key("a"), Bytes::from_static(b"1")).await.expect("writes");
    assert_eq!(other.size(&key("a")).await.expect("looks"), None);
    assert!(other.list("").await.expect("lists").is_empty());
    assert_eq!(one.location(&key("a")), "s3://dih-contract/one/a");
}

async fn a_form_takes_one_file_and_none_that_is_too_large(options: &Options) {
    let name = key("inbox/photo");
    let form = bucket::form(options, &name, 10, Duration::from_secs(60)).await.expect("a form");
    let post = async |file: &str| {
        let fields = form.fields.iter().map(|(name, value)| {
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        });
        let last = "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
        let body = format!("{}{last}{file}\r\n--edge--\r\n", fields.collect::<String>());
        let post = reqwest::Client::new().post(&form.url).header("Content-Type", "multipart/form-data; boundary=edge");
        post.body(body).send().await.expect("answers").status()
    };
    assert!(post("more than ten bytes").await.is_client_error());
    assert!(post("ten bytes.").await.is_success());
    let blobs = ObjectBlobs::s3(options).expect("opens");
    assert_eq!(blobs.get(&name).await.expect("reads"), "ten bytes.");
    assert!(!format!("{form:?}").contains("ignature"), "whoever has the form may upload");
}

async fn who_is_not_known_is_refused_with_a_remedy(options: &Options) {
    let forgot = Options { secret: Secret::new("forgotten"), ..options.clone() };
    let stranger = Options { access_key_id: "stranger".into(), ..options.clone() };
    for options in [forgot, stranger] {
        let blobs = ObjectBlobs::s3(&options).expect("opens");
        let refusals = [
            blobs.check().await.expect_err("refused"),
            blobs.put(&key("a"), Bytes::new()).await.expect_err("refused"),
            blobs.create(&key("a"), Bytes::new()).await.expect_err("refused"),
            blobs.get(&key("a")).await.expect_err("refused"),
            blobs.size(&key("a")).await.expect_err("refused"),
            blobs.list("").await.expect_err("refused"),
            blobs.delete(&key("a")).await.expect_err("refused"),
            bucket::set_up(&options, KEEP).await.expect_err("refused"),
        ];
        for refused in refusals {
            let said = chain(&refused).to_string();
            assert_eq!(refused.class(), Class::Halt, "{said}");
            assert!(said.contains("correct"), "{said}");
            assert!(!said.contains("forgotten"), "{said}");
        }
    }
}

async fn a_bucket_that_is_not_there_is_refused_with_a_remedy(options: &Options) {
    // Made on the first write by this server, but not by others, so only reading shows it.
    let blobs = ObjectBlobs::s3(&Options { bucket: "dih-nowhere".into(), ..options.clone() }).expect("opens");
    for refused in [blobs.get(&key("a")).await.map(drop), blobs.list("").await.map(drop)] {
        let refused = refused.expect_err("there is no bucket");
        assert_eq!(refused.class(), Class::Halt);
        assert!(refused.to_string().contains("make bucket `dih-nowhere` with `dih setup`"), "{refused}");
    }
    let blobs = ObjectBlobs::s3(&Options { bucket: "No_Bucket".into(), ..options.clone() }).expect("opens");
    assert_eq!(blobs.check().await.expect_err("no name for a bucket").class(), Class::Halt);
}

/// One that wants to know soon.
fn hasty(options: &Options) -> Options {
    let soon = Duration::from_millis(500);
    Options { timeout: soon, retry_for: soon, ..options.clone() }
}

async fn a_server_that_is_gone_is_given_up_in_time(options: &Options) {
    let begun = Instant::now();
    let options = hasty(options);
    let blobs = ObjectBlobs::s3(&options).expect("opens");
    let gone = [
        blobs.check().await.expect_err("gone"),
        blobs.create(&key("a"), Bytes::new()).await.expect_err("gone"),
        blobs.get(&key("a")).await.expect_err("gone"),
        bucket::set_up(&options, KEEP).await.expect_err("gone"),
    ];
    assert!(gone.iter().all(|error| error.class() == Class::Retry), "{gone:?}");
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
}

/// Somebody at an address of this machine.
fn somebody(listener: &TcpListener) -> Options {
    let address = listener.local_addr().expect("it is bound");
    Options {
        endpoint: format!("http://{address}").parse().expect("an endpoint"),
        bucket: "photos".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        access_key_id: "me".into(),
        secret: Secret::new("mine"),
        path_style: true,
        ca_file: None,
        timeout: BOUND,
        retry_for: BOUND,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_given_up_in_time() {
    // The system takes the connection; nobody reads from it.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let blobs = ObjectBlobs::s3(&hasty(&somebody(&listener))).expect("opens");
    let begun = Instant::now();
    let silent = blobs.put(&key("a"), Bytes::from_static(b"1")).await.expect_err("nobody answers");
    assert_eq!(silent.class(), Class::Retry, "{}", chain(&silent));
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
}

/// Answers every request by its method.
async fn answer_all(listener: TcpListener, answer: impl Fn(&str) -> String + Clone + Send + 'static) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let answer = answer.clone();
        tokio::spawn(async move {
            let mut request = [0; 16 << 10];
            while let Ok(read @ 1..) = stream.read(&mut request).await {
                let request = String::from_utf8_lossy(&request[..read]);
                let method = request.split(' ').next().unwrap_or_default();
                let _ = stream.write_all(answer(method).as_bytes()).await;
            }
        });
    }
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    let head = "ETag: \"1\"\r\nContent-Type: application/xml";
    format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_versions_and_rules_is_used_as_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let options = somebody(&listener);
    tokio::spawn(answer_all(listener, |method| match method {
        "HEAD" => answer("200 OK", ""),
        _ => answer("501 Not Implemented", "<Error><Code>NotImplemented</Code></Error>"),
    }));
    let done = SetUp { bucket: Done::Found, versioning: Done::Unknown, rules: Done::Unknown };
    assert_eq!(bucket::set_up(&options, KEEP).await.expect("sets up"), done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_is_asked_again_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let options = somebody(&listener);
    tokio::spawn(answer_all(listener, |method| match method {
        "HEAD" => answer("200 OK", ""),
        _ => answer("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"),
    }));
    let busy = bucket::set_up(&options, KEEP).await.expect_err("busy");
    assert_eq!(busy.class(), Class::Retry, "{}", chain(&busy));
}

#[track_caller]
fn check_answer(status: &str, body: &str, class: Class, word: &str) {
    let answer = answer(status, body);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let error = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let blobs = ObjectBlobs::s3(&hasty(&somebody(&listener))).expect("opens");
        tokio::spawn(answer_all(listener, move |_| answer.clone()));
        blobs.check().await.expect_err("no good server")
    });
    let said = chain(&error).to_string();
    assert_eq!(error.class(), class, "{said}");
    assert!(said.contains(word), "{said}");
}

#[test]
fn a_server_that_lets_two_win_is_refused_with_a_remedy() {
    check_answer("200 OK", "", Class::Halt, "use a server that honours `If-None-Match: *`");
    check_answer("501 Not Implemented", "", Class::Halt, "docs/stores.md");
}

#[test]
fn what_a_server_says_decides_whether_to_try_again() {
    check_answer("503 Service Unavailable", "<Code>SlowDown</Code>", Class::Retry, "SlowDown");
    check_answer("500 Internal Server Error", "", Class::Retry, "500");
    check_answer("429 Too Many Requests", "", Class::Retry, "429");
    check_answer("403 Forbidden", "<Code>AccessDenied</Code>", Class::Halt, "let that account read, write");
    check_answer("404 Not Found", "<Code>NoSuchBucket</Code>", Class::Halt, "make bucket `photos` with `dih setup`");
    check_answer("400 Bad Request", "<Code>AuthorizationHeaderMalformed</Code>", Class::Halt, "region");
    check_answer("301 Moved Permanently", "", Class::Halt, "region");
}

#[test]
fn a_file_without_certificates_is_refused_with_a_remedy() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    for ca_file in ["/no/such/file".into(), file.path().to_owned()] {
        let options = Options { ca_file: Some(ca_file), ..somebody(&listener) };
        let refused = ObjectBlobs::s3(&options).expect_err("no certificates");
        assert!(refused.to_string().contains("stores.s3.ca_file"), "{refused}");
    }
}
