//! Values that arrive in pieces, and values that are refused: every option holds at every length.

mod common;

use common::Bench;
use crucible_plugin_testkit::Conn;

/// Sends in pieces, so that long values stream.
fn send_in_pieces(conn: &Conn, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut got = Vec::new();
    for part in bytes.chunks(piece) {
        got.extend(conn.ask(part));
    }
    got
}

fn shown(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(200)];
    format!("{} bytes: {}", bytes.len(), head.escape_ascii())
}

#[test]
fn options_hold_at_ten_bytes_and_at_a_megabyte() {
    for len in [10, 65_535, 65_536, 200_000, 1 << 20] {
        for piece in [1000, 65_537, 10 << 20] {
            let bench = Bench::new();
            let conn = bench.connect();
            let block = |head: &str, fill: u8| {
                [format!("{head}\r\n").as_bytes(), &vec![fill; len], b"\r\n"].concat()
            };
            let ask = |head: &str, fill: u8| {
                String::from_utf8(send_in_pieces(&conn, &block(head, fill), piece)).unwrap()
            };
            assert_eq!(ask(&format!("replace k 0 0 {len}"), b'r'), "NOT_STORED\r\n");
            assert_eq!(ask(&format!("add k 7 100 {len}"), b'a'), "STORED\r\n");
            assert_eq!(ask(&format!("add k 8 100 {len}"), b'b'), "NOT_STORED\r\n");
            assert_eq!(
                ask(&format!("cas k 8 100 {len} 987654321"), b'b'),
                "EXISTS\r\n",
                "{len} {piece}"
            );
            assert_eq!(ask(&format!("set n 1 0 {len} noreply"), b'n'), "");
            assert_eq!(ask(&format!("ms m {len} F5 T60 O9 k c q"), b'm'), "");
            assert_eq!(ask(&format!("ms m {len} ME k O9"), b'm'), "NS km O9\r\n");
            assert_eq!(
                ask(&format!("ms bQ== {len} b F5 T60 k s"), b'm'),
                format!("HD kbQ== b s{len}\r\n")
            );
            conn.expect(b"mg m s f t\r\n", format!("HD s{len} f5 t60\r\n").as_bytes());
            conn.expect(b"mg k s f t\r\n", format!("HD s{len} f7 t100\r\n").as_bytes());
            let want =
                [format!("VALUE k 7 {len}\r\n").as_bytes(), &vec![b'a'; len], b"\r\nEND\r\n"]
                    .concat();
            let got = conn.ask(b"get k\r\n");
            assert!(got == want, "{}", shown(&got));
            assert_eq!(bench.host.lent(bench.store).bodies, 0, "no reservation is left");
        }
    }
}

#[test]
fn a_value_without_its_end_is_refused_at_every_length() {
    for len in [10, 70_000] {
        let bench = Bench::new();
        let conn = bench.connect();
        conn.expect(b"set k 0 0 1\r\na\r\n", b"STORED\r\n");
        let sent =
            [format!("set k 0 0 {len}\r\n").as_bytes(), &vec![b'x'; len], b"xxget k\r\n"].concat();
        let got = send_in_pieces(&conn, &sent, 30_000);
        assert_eq!(
            got,
            b"CLIENT_ERROR bad data chunk\r\nVALUE k 0 1\r\na\r\nEND\r\n",
            "{}",
            shown(&got)
        );
        assert_eq!(bench.host.lent(bench.store).bodies, 0);
    }
}

#[test]
fn a_value_too_large_is_discarded_to_the_byte_and_the_old_one_dropped() {
    let too_large = b"SERVER_ERROR object too large for cache\r\n";
    for len in [1001, 100_000, 3 << 20] {
        for piece in [777, 100_000, 10 << 20] {
            let bench = Bench::with_settings(r#"{"value_len_bytes_max": 1000}"#);
            let conn = bench.connect();
            // Bytes that would be commands if they were not discarded.
            let body: Vec<u8> =
                b"delete j\r\nset j 0 0 1\r\nX\r\n".iter().copied().cycle().take(len).collect();
            for (command, dropped, noreply) in [
                ("set", true, false),
                ("add", false, false),
                ("append", false, false),
                ("replace", false, true),
            ] {
                conn.expect(b"set k 0 0 1\r\na\r\nset j 0 0 1\r\na\r\n", b"STORED\r\nSTORED\r\n");
                let head =
                    format!("{command} k 0 0 {len}{}\r\n", if noreply { " noreply" } else { "" });
                let sent = [head.as_bytes(), &body, b"\r\n"].concat();
                let got = send_in_pieces(&conn, &sent, piece);
                assert_eq!(got, if noreply { &b""[..] } else { too_large }, "{}", shown(&got));
                let k: &[u8] = if dropped { b"" } else { b"VALUE k 0 1\r\na\r\n" };
                conn.expect(b"get k j\r\n", &[k, b"VALUE j 0 1\r\na\r\nEND\r\n"].concat());
            }
            let sent = [format!("ms k {len} q k O1\r\n").as_bytes(), &body, b"\r\n"].concat();
            let got = send_in_pieces(&conn, &sent, piece);
            assert_eq!(got, too_large, "{}", shown(&got));
            conn.expect(b"mg k\r\n", b"EN\r\n");
        }
    }
}

#[test]
fn appending_a_large_value_works() {
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(b"set k 3 100 1\r\na\r\n", b"STORED\r\n");
    let sent =
        [b"append k 0 0 100000\r\n".to_vec(), vec![b'b'; 100_000], b"\r\n".to_vec()].concat();
    assert_eq!(send_in_pieces(&conn, &sent, 9000), b"STORED\r\n");
    conn.expect(b"mg k s f t\r\n", b"HD s100001 f3 t100\r\n");
}

#[test]
fn a_block_that_must_be_gathered_has_a_limit_of_its_own_in_every_encoding() {
    let too_large = b"SERVER_ERROR object too large for cache\r\n";
    let bench = Bench::with_settings(r#"{"gathered_len_bytes_max": 1000}"#);
    let conn = bench.connect();
    let body = b"delete k\r\n".repeat(101);
    for (command, answer) in [
        ("append k 0 0 1010", &too_large[..]),
        ("prepend k 0 0 1010", too_large),
        ("ms k 1010 MA", too_large),
        ("ms k 1010 MP", too_large),
        ("ms k 1010 I C1", too_large),
        ("append k 0 0 1010 noreply", b""),
        // What streams is not gathered.
        ("replace k 0 0 1010", b"STORED\r\n"),
        ("ms k 1010 MR", b"HD\r\n"),
    ] {
        conn.expect(b"set k 0 0 1\r\na\r\n", b"STORED\r\n");
        let sent = [command.as_bytes(), b"\r\n", &body, b"\r\n"].concat();
        assert_eq!(shown(&send_in_pieces(&conn, &sent, 77)), shown(answer), "{command}");
    }
    conn.expect(b"set k 0 0 1\r\na\r\n", b"STORED\r\n");
    let header = |opcode: u8, key_len: u8, body_len: u32| {
        let mut h = vec![0x80, opcode, 0, key_len, 0, 0, 0, 0];
        h.extend_from_slice(&body_len.to_be_bytes());
        h.extend_from_slice(&[0; 12]);
        h
    };
    let binary = bench.connect();
    for opcode in [0x0e, 0x0f] {
        let sent = [&header(opcode, 1, 1011)[..], b"k", &body, &header(0x0a, 0, 0)].concat();
        let got = send_in_pieces(&binary, &sent, 100);
        assert_eq!(&got[6..8], [0, 3], "E2BIG: {}", shown(&got));
        assert_eq!(&got[got.len() - 24..][..2], [0x81, 0x0a], "the Noop behind it is answered");
    }
    conn.expect(b"mg k s\r\n", b"HD s1\r\n");
}

#[test]
fn a_connection_that_goes_away_in_the_middle_leaves_nothing_behind() {
    let bench = Bench::new();
    let conn = bench.connect();
    conn.expect(b"set k 0 0 500000\r\nhalf of it", b"");
    conn.close();
    assert_eq!(bench.host.lent(bench.store).bodies, 0);
    bench.connect().expect(b"get k\r\n", b"END\r\n");
}

#[test]
fn a_large_binary_value_streams_with_its_options() {
    for len in [10usize, 70_000, 1 << 20] {
        let bench = Bench::new();
        let conn = bench.connect();
        let request = |opcode: u8, cas: u64| {
            let mut b = vec![0x80, opcode, 0, 1, 8, 0, 0, 0];
            b.extend((len as u32 + 9).to_be_bytes());
            b.extend([0; 4]);
            b.extend(cas.to_be_bytes());
            b.extend([0, 0, 0, 7, 0, 0, 0, 60, b'k']);
            b.extend(vec![b'v'; len]);
            b
        };
        let status = |reply: &[u8]| u16::from_be_bytes([reply[6], reply[7]]);
        assert_eq!(status(&send_in_pieces(&conn, &request(0x03, 0), 5000)), 1);
        assert_eq!(status(&send_in_pieces(&conn, &request(0x02, 0), 5000)), 0);
        assert_eq!(status(&send_in_pieces(&conn, &request(0x02, 0), 5000)), 2);
        assert_eq!(status(&send_in_pieces(&conn, &request(0x01, 12345), 5000)), 2);
        assert_eq!(send_in_pieces(&conn, &request(0x11, 0), 5000), b"");
        bench.connect().expect(b"mg k s f t\r\n", format!("HD s{len} f7 t60\r\n").as_bytes());
    }
}
