//! Meta commands: bytes in, bytes out.

mod common;

use common::{Bench, script};

#[test]
fn meta_get_returns_flags_in_the_order_asked() {
    script(&[
        (b"mg k\r\n", b"EN\r\n"),
        (b"mg k k O1 q\r\n", b""),
        (b"mg k k O1 v s\r\n", b"EN kk O1\r\n"),
        (b"set k 7 100 3\r\nabc\r\n", b"STORED\r\n"),
        (b"mg k h l u\r\n", b"HD h0 l0\r\n"),
        (b"mg k\r\n", b"HD\r\n"),
        (b"mg k h\r\n", b"HD h1\r\n"),
        (b"mg k v q\r\n", b"VA 3\r\nabc\r\n"),
        (b"mg k s v t f k O77\r\n", b"VA 3 s3 t100 f7 kk O77\r\nabc\r\n"),
        (b"mg k T0 t\r\n", b"HD t-1\r\n"),
        (b"mg k t T50\r\n", b"HD t-1\r\n"),
        (b"mg k t\r\n", b"HD t50\r\n"),
    ]);
}

#[test]
fn vivify_hands_out_one_win() {
    script(&[
        (b"mg k N30 t v s\r\n", b"VA 0 t30 s0 W\r\n\r\n"),
        (b"mg k N30 t v\r\n", b"VA 0 t30 Z\r\n\r\n"),
        (b"mg k t v\r\n", b"VA 0 t30 Z\r\n\r\n"),
        (b"ms k 2 T60\r\nhi\r\n", b"HD\r\n"),
        (b"mg k N30 t v\r\n", b"VA 2 t60\r\nhi\r\n"),
        (b"mg n t s N30 h\r\n", b"HD t-1 s0 h0 W\r\n"),
        (b"mg n t s N30 h\r\n", b"HD t30 s0 h1 Z\r\n"),
    ]);
}

#[test]
fn recache_hands_out_one_win() {
    script(&[
        (b"ms k 2 T60\r\nhi\r\n", b"HD\r\n"),
        (b"mg k R30 t\r\n", b"HD t60\r\n"),
        (b"mg k R90 t v\r\n", b"VA 2 t60 W\r\nhi\r\n"),
        (b"mg k R90 t v\r\n", b"VA 2 t60 Z\r\nhi\r\n"),
        (b"ms k 2\r\nhi\r\n", b"HD\r\n"),
        (b"mg k R90 t\r\n", b"HD t-1\r\n"),
    ]);
}

#[test]
fn a_stale_item_is_served_and_won_once() {
    script(&[
        (b"ms k 2 T60\r\nhi\r\n", b"HD\r\n"),
        (b"md k I T30\r\n", b"HD\r\n"),
        (b"mg k t v\r\n", b"VA 2 t30 X W\r\nhi\r\n"),
        (b"mg k t v\r\n", b"VA 2 t30 Z X\r\nhi\r\n"),
        (b"get k\r\n", b"VALUE k 0 2\r\nhi\r\nEND\r\n"),
        (b"md k I q\r\n", b""),
        (b"mg k\r\n", b"HD X W\r\n"),
        (b"ms k 2 T60\r\nho\r\n", b"HD\r\n"),
        (b"mg k t v\r\n", b"VA 2 t60\r\nho\r\n"),
        (b"md n I\r\n", b"NF\r\n"),
        (b"md k x\r\n", b"HD\r\n"),
        (b"mg k v f t\r\n", b"VA 0 f0 t-1\r\n\r\n"),
    ]);
}

#[test]
fn sixteen_racing_readers_have_one_winner() {
    for (prepare, race) in [
        (&b"md k q\r\n"[..], &b"mg k N30 v\r\n"[..]),
        (b"ms k 1 T60 q\r\nx\r\nmd k I q\r\n", b"mg k v\r\n"),
        (b"ms k 1 T60 q\r\nx\r\n", b"mg k R90 v\r\n"),
    ] {
        let bench = Bench::new();
        let conns: Vec<_> = (0..16).map(|_| bench.connect()).collect();
        let _ = conns[0].ask(prepare);
        conns.iter().for_each(|c| c.queue(race));
        bench.host.sweep();
        let replies: Vec<_> =
            conns.iter().map(crucible_plugin_testkit::Conn::take_output).collect();
        let with = |flag: &[u8]| replies.iter().filter(|r| r.windows(2).any(|w| w == flag)).count();
        assert_eq!((with(b" W"), with(b" Z")), (1, 15), "{}", race.escape_ascii());
    }
}

/// The token after ` c` in a reply.
fn cas(reply: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(reply);
    let at = text.find(" c").expect("a CAS token") + 2;
    text[at..].split([' ', '\r']).next().unwrap().parse().unwrap()
}

#[test]
fn only_the_winner_of_a_stale_item_stores_and_an_older_token_stores_stale() {
    let bench = Bench::new();
    let conn = bench.connect();
    let first = cas(&conn.ask(b"ms k 2 T60 c\r\nhi\r\n"));
    conn.expect(b"md k I T30\r\n", b"HD\r\n");
    let won = conn.ask(b"mg k c v\r\n");
    assert!(won.ends_with(b" X W\r\nhi\r\n"), "{}", won.escape_ascii());
    let now = cas(&won);
    assert!(now > first);
    conn.expect(format!("ms k 3 C{first} I\r\nold\r\n").as_bytes(), b"HD\r\n");
    conn.expect(b"mg k v t\r\n", b"VA 3 t30 Z X\r\nold\r\n");
    conn.expect(format!("ms k 3 C{first}\r\nnew\r\n").as_bytes(), b"EX\r\n");
    let token = cas(&conn.ask(b"mg k c\r\n"));
    conn.expect(format!("ms k 3 C{token} T90\r\nnew\r\n").as_bytes(), b"HD\r\n");
    conn.expect(b"mg k v t\r\n", b"VA 3 t90\r\nnew\r\n");
    conn.expect(b"ms k 3 I C0\r\nold\r\n", b"EX\r\n");
    conn.expect(b"ms n 3 I C5\r\nold\r\n", b"NF\r\n");
}

#[test]
fn modes_and_returns_of_meta_set() {
    script(&[
        (b"ms k 1 MR\r\na\r\n", b"NS\r\n"),
        (b"ms k 1 MA k\r\na\r\n", b"NS kk\r\n"),
        (b"ms k 1 MP c\r\na\r\n", b"NS c0\r\n"),
        (b"ms k 1 ME F3 T9\r\nm\r\n", b"HD\r\n"),
        (b"ms k 1 ME q\r\nb\r\n", b"NS\r\n"),
        (b"ms k 1 MA F9 T99 s\r\nz\r\n", b"HD s2\r\n"),
        (b"ms k 1 MP O5 k\r\na\r\n", b"HD O5 kk\r\n"),
        (b"mg k v f t\r\n", b"VA 3 f3 t9\r\namz\r\n"),
        (b"ms k 2 MR s\r\nrr\r\n", b"HD s2\r\n"),
        (b"ms k 2 C5 k\r\nxx\r\n", b"EX kk\r\n"),
        (b"ms n 2 C5\r\nxx\r\n", b"NF\r\n"),
        (b"ms n 2 MA N60\r\nxx\r\n", b"HD\r\n"),
        (b"ms n 2 MA N90\r\nyy\r\n", b"HD\r\n"),
        (b"mg n v t\r\n", b"VA 4 t60\r\nxxyy\r\n"),
        (b"ms k 1 q\r\na\r\n", b""),
    ]);
}

#[test]
fn explicit_cas_values_are_kept() {
    script(&[
        (b"ms k 1 E77 c\r\na\r\n", b"HD c77\r\n"),
        (b"mg k c\r\n", b"HD c77\r\n"),
        (b"ms k 1 C77 E90 c\r\nb\r\n", b"HD c90\r\n"),
        (b"ma n N0 J5 E8 c v\r\n", b"VA 1 c8\r\n5\r\n"),
        (b"ma n E9 c v\r\n", b"VA 1 c9\r\n6\r\n"),
        (b"md n I E50\r\n", b"HD\r\n"),
        (b"mg v N10 E3 c\r\n", b"HD c3 W\r\n"),
    ]);
}

#[test]
fn refused_sets_discard_their_value() {
    let long = [b"ms ".to_vec(), vec![b'k'; 251], b" 9\r\nflush_all\r\n".to_vec()].concat();
    script(&[
        (b"ms k 4 Z\r\nmn\r\n\r\n", b"CLIENT_ERROR invalid flag\r\n"),
        (b"ms k 2 T1 T2\r\nhi\r\n", b"CLIENT_ERROR duplicate flag\r\n"),
        (b"ms k 2 Tx\r\nhi\r\n", b"CLIENT_ERROR bad token in command line format\r\n"),
        (b"ms k 2 MZ\r\nhi\r\n", b"CLIENT_ERROR invalid mode for ms M token\r\n"),
        (b"ms !!!! 2 b\r\nhi\r\n", b"CLIENT_ERROR error decoding key\r\n"),
        (&long, b"CLIENT_ERROR bad command line format\r\n"),
        (b"ms k abc\r\n", b"CLIENT_ERROR bad command line format\r\n"),
        (b"ms k -1\r\n", b"CLIENT_ERROR bad command line format\r\n"),
        (b"ms k 2\r\nhiho\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\n"),
        (b"mg k\r\n", b"EN\r\n"),
    ]);
}

#[test]
fn meta_arithmetic() {
    script(&[
        (b"ma k\r\n", b"NF\r\n"),
        (b"ma k q k\r\n", b"NF kk\r\n"),
        (b"ma k N0 J13 v\r\n", b"VA 2\r\n13\r\n"),
        (b"ma k v\r\n", b"VA 2\r\n14\r\n"),
        (b"ma k MD D10 v O1 k\r\n", b"VA 1 O1 kk\r\n4\r\n"),
        (b"ma k M- D10 v t\r\n", b"VA 1 t-1\r\n0\r\n"),
        (b"ma k T60 t v\r\n", b"VA 1 t60\r\n1\r\n"),
        (b"ma k t T90\r\n", b"HD t60\r\n"),
        (b"ma k t q\r\n", b""),
        (b"get k\r\n", b"VALUE k 0 2\r\n3 \r\nEND\r\n"),
        (b"ma k C1\r\n", b"EX\r\n"),
        (b"set k 0 0 1\r\na\r\n", b"STORED\r\n"),
        (b"ma k q\r\n", b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    ]);
}

#[test]
fn base64_keys() {
    script(&[
        (b"ms Zm9vYmFy 2 b k\r\nhi\r\n", b"HD kZm9vYmFy b\r\n"),
        (b"mg Zm9vYmFy b v k O1\r\n", b"VA 2 kZm9vYmFy b O1\r\nhi\r\n"),
        (b"mg foobar v\r\n", b"VA 2\r\nhi\r\n"),
        (b"set plain 0 0 1\r\na\r\n", b"STORED\r\n"),
        (b"mg cGxhaW4= b k\r\n", b"HD kplain\r\n"),
        (b"ma AAE= b N0 J1 v k\r\n", b"VA 1 kAAE= b\r\n1\r\n"),
        (b"md Zm9vYmFy b k\r\n", b"HD kZm9vYmFy b\r\n"),
        (b"mg Zm9vYmFy b k\r\n", b"EN kZm9vYmFy b\r\n"),
        (b"mg !!!! b\r\n", b"CLIENT_ERROR error decoding key\r\n"),
        (b"md !!!! b\r\n", b"CLIENT_ERROR invalid or duplicate flag\r\n"),
        (b"me !!!! b\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    ]);
}

#[test]
fn meta_debug_and_noop() {
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(b"me k\r\n", b"EN\r\n");
    conn.expect(b"set k 0 100 3\r\nabc\r\n", b"STORED\r\n");
    let shown = String::from_utf8(conn.ask(b"me k\r\n")).unwrap();
    assert!(shown.starts_with("ME k exp=100 la=0 cas="), "{shown}");
    assert!(shown.ends_with(" fetch=no cls=1 size=4\r\n"), "{shown}");
    conn.expect(b"mn\r\n", b"MN\r\n");
}

#[test]
fn last_access_counts_the_seconds_since_the_use_before_this_one() {
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(b"set k 0 0 1\r\na\r\n", b"STORED\r\n");
    bench.host.advance_ms(61_000);
    conn.expect(
        b"mg k l u\r\nmg k l h t\r\nmg k l h\r\n",
        b"HD l61\r\nHD l61 h0 t-1\r\nHD l0 h1\r\n",
    );
    bench.host.advance_ms(5000);
    conn.expect(b"mg k l T300\r\nmg k l\r\n", b"HD l5\r\nHD l0\r\n");
    bench.host.advance_ms(7000);
    conn.expect(b"mg k l R1\r\n", b"HD l7\r\n");
    bench.host.advance_ms(3000);
    let shown = String::from_utf8(conn.ask(b"me k\r\n")).unwrap();
    assert!(
        shown.starts_with("ME k exp=290 la=3 cas=") && shown.contains(" fetch=yes "),
        "{shown}"
    );
    let dump = String::from_utf8(conn.ask(b"lru_crawler metadump all\r\n")).unwrap();
    let la = bench.host.now_ms() / 1000 - 3;
    assert!(dump.contains(&format!(" la={la} ")), "{dump}");
    // A new value was not fetched yet, and is used by being stored.
    conn.expect(b"ms k 1\r\nb\r\nmg k h l\r\n", b"HD\r\nHD h0 l0\r\n");
    conn.expect(b"mg n l h N60\r\n", b"HD l0 h0 W\r\n");
}
