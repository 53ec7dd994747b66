//! The `redis` crate, a client that nobody here wrote, connects unchanged.

use redis::{Commands, Connection, ErrorKind, ServerErrorKind};

use crate::serving::args;
use crate::support::Host;

fn connect(host: &Host, protocol: &str) -> Connection {
    let url = format!("redis://{}/?protocol={protocol}", host.address(0));
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

#[test]
fn the_redis_crate_reads_and_writes_over_both_protocol_versions() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    for protocol in ["resp2", "resp3"] {
        let mut redis = connect(&host, protocol);
        let () = redis.set("n", 41).unwrap();
        assert_eq!(redis.incr::<_, _, i64>("n", 1).unwrap(), 42);
        assert_eq!(redis.get::<_, Option<String>>("none").unwrap(), None);
        let large = vec![b'x'; 900_000];
        let () = redis.set("large", &large).unwrap();
        assert!(redis.get::<_, Vec<u8>>("large").unwrap() == large);
        let () = redis.set_ex("short", "v", 100).unwrap();
        assert!((1..=100).contains(&redis.ttl::<_, i64>("short").unwrap()));
        assert_eq!(redis.del::<_, u32>(&["n", "large", "short", "none"]).unwrap(), 3);
    }
    host.stop();
}

#[test]
fn the_redis_crate_pipelines_transacts_and_reads_errors() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    let mut redis = connect(&host, "resp3");
    let mut pipe = redis::pipe();
    for i in 0..500 {
        pipe.set(format!("k{i}"), i).ignore().get(format!("k{i}"));
    }
    let values: Vec<i64> = pipe.query(&mut redis).unwrap();
    assert!(values.into_iter().eq(0..500));
    let (sum, text): (i64, String) = redis::pipe()
        .atomic()
        .incr("k1", 9)
        .append("k2", "!")
        .ignore()
        .get("k2")
        .query(&mut redis)
        .unwrap();
    assert_eq!((sum, text.as_str()), (10, "2!"));
    let error = redis.incr::<_, _, i64>("k2", 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError), "{error}");
    assert_eq!(redis.get::<_, i64>("k3").unwrap(), 3, "and the connection goes on");
    host.stop();
}
