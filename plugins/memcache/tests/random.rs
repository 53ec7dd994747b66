//! Whatever bytes arrive, however cut: no panic, and the connection is closed or in step.

mod common;

use common::Bench;
use crucible_plugin_api::CloseReason;
use proptest::prelude::*;

/// Pieces of commands, good and bad, with which random input gets somewhere.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "get ",
        "gets ",
        "set ",
        "add ",
        "cas ",
        "append ",
        "incr ",
        "decr ",
        "touch ",
        "gat ",
        "delete ",
        "mg ",
        "ms ",
        "md ",
        "ma ",
        "me ",
        "mn",
        "stats",
        "flush_all",
        "version",
        "k ",
        "key2 ",
        "0 ",
        "1 ",
        "5 ",
        "-1 ",
        "noreply",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "abc\r\n",
        "v ",
        "T30 ",
        "N30 ",
        "R9 ",
        "q ",
        "k ",
        "b ",
        "I ",
        "x ",
        "C1 ",
        "E7 ",
        "MA ",
        "O1 ",
        "Zm9v ",
        "99999999999 ",
        "70000 ",
        "2000000 ",
        "\0",
    ]);
    prop_oneof![
        12 => words.prop_map(|w| w.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0usize..90_000).prop_map(|n| vec![b'x'; n]),
    ]
}

fn binary_request() -> impl Strategy<Value = Vec<u8>> {
    (0u8..0x28, prop::collection::vec(any::<u8>(), 0..22), 0u8..6, 0usize..40, any::<bool>())
        .prop_map(|(opcode, extras, key_len, value_len, sound)| {
            let mut b = vec![0x80, opcode, 0, key_len, extras.len() as u8, 0, 0, 0];
            let body = extras.len() + usize::from(key_len) + value_len;
            b.extend((body as u32 + u32::from(!sound)).to_be_bytes());
            b.extend([0; 12]);
            b.extend(&extras);
            b.extend(vec![b'k'; usize::from(key_len)]);
            b.extend(vec![b'v'; value_len]);
            b
        })
}

/// Feeds the input in pieces; afterwards the connection is closed, waits for more, or answers.
fn survives(pieces: &[Vec<u8>], cut: usize) {
    let bench = Bench::with_settings(r#"{"value_len_bytes_max": 1000000}"#);
    let conn = bench.connect();
    for bytes in pieces.concat().chunks(cut) {
        conn.send(bytes);
        let _ = conn.take_output();
    }
    assert_ne!(conn.closed(), Some(CloseReason::PANIC));
    bench.host.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_text_survives(pieces in prop::collection::vec(piece(), 0..60), cut in 1usize..5000) {
        survives(&pieces, cut);
    }

    #[test]
    fn random_binary_survives(pieces in prop::collection::vec(binary_request(), 0..20), cut in 1usize..300) {
        survives(&pieces, cut);
    }

    #[test]
    fn how_input_is_cut_changes_nothing(pieces in prop::collection::vec(piece(), 0..30), cut in 1usize..3000) {
        let input = pieces.concat();
        let whole = Bench::new();
        let whole = whole.connect().ask(&input);
        let bench = Bench::new();
        let conn = bench.connect();
        let mut parts = Vec::new();
        for bytes in input.chunks(cut) {
            parts.extend(conn.ask(bytes));
        }
        // A line that is too long closes as soon as that is seen: cut input is seen earlier.
        let closed = conn.is_closed();
        prop_assert!(parts == whole || closed && whole.starts_with(&parts), "{} against {}",
            parts.escape_ascii(), whole.escape_ascii());
    }
}
