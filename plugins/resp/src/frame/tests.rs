//! Tables of the frame parser: bytes in, commands out, however they are cut.

use super::*;
use proptest::prelude::*;

fn owned(parser: &Parser, input: &[u8]) -> Vec<Vec<u8>> {
    let args = Args::new(parser.line().unwrap_or(input), parser.spans());
    args.from(0).map(<[u8]>::to_vec).collect()
}

/// Parses everything in `input`, given in the pieces that `cuts` make.
fn drive(input: &[u8], cuts: &[usize], limits: &Limits) -> Result<Vec<Vec<Vec<u8>>>, FrameError> {
    let (mut parser, mut done, mut commands) = (Parser::default(), 0, Vec::new());
    let mut ends: Vec<usize> = cuts.iter().copied().filter(|c| *c <= input.len()).collect();
    ends.push(input.len());
    for end in ends {
        loop {
            let rest = &input[done..end.max(done)];
            match parser.next(rest, limits)? {
                Next::Command { consumed } => {
                    commands.push(owned(&parser, rest));
                    done += consumed;
                }
                Next::Empty { consumed } => done += consumed,
                Next::Partial { need_bytes, .. } => {
                    assert!(need_bytes > rest.len(), "asks for what it has");
                    break;
                }
            }
        }
    }
    Ok(commands)
}

fn parse(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, FrameError> {
    drive(input, &[], &Limits::default())
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|w| w.as_bytes().to_vec()).collect()
}

#[test]
fn a_pipeline_splits_at_every_byte_alike() {
    let input =
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\nPING\r\n*0\r\n*-1\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n\
        $12\r\nhello\r\nworld\r\nset \"a b\" 'c\\'d' \"\\x41\\n\"\r\n*1\r\n$4\r\nQUIT\r\n";
    let whole = parse(input).unwrap();
    assert_eq!(whole.len(), 5);
    assert_eq!(whole[0], words("GET k"));
    assert_eq!(whole[1], words("PING"));
    assert_eq!(whole[2], [b"SET".to_vec(), vec![], b"hello\r\nworld".to_vec()]);
    assert_eq!(whole[3], [b"set".to_vec(), b"a b".to_vec(), b"c'd".to_vec(), b"A\n".to_vec()]);
    for cut in 0..=input.len() {
        assert_eq!(drive(input, &[cut], &Limits::default()).unwrap(), whole, "cut at {cut}");
    }
    let every: Vec<usize> = (0..input.len()).collect();
    assert_eq!(drive(input, &every, &Limits::default()).unwrap(), whole);
}

#[test]
fn framing_errors_carry_the_texts_that_clients_know() {
    let cases: &[(&[u8], &str)] = &[
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (b"*\r\n", "Protocol error: invalid multibulk length"),
        (b"*+1\r\n", "Protocol error: invalid multibulk length"),
        (b"*01\r\n", "Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\nPING\r\n", "Protocol error: expected '$', got 'P'"),
        (b"*1\r\n\r\n", "Protocol error: expected '$', got '\r'"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
        (b"set \"k\r\n", "Protocol error: unbalanced quotes in request"),
        (b"set 'k\r\n", "Protocol error: unbalanced quotes in request"),
        (b"set \"k\"x\r\n", "Protocol error: unbalanced quotes in request"),
    ];
    for (input, text) in cases {
        let error = parse(input).expect_err(text);
        assert_eq!(error.to_string(), *text);
        let every: Vec<usize> = (0..input.len()).collect();
        assert_eq!(drive(input, &every, &Limits::default()), Err(error));
    }
}

#[test]
fn endless_lines_end_in_an_error_instead_of_a_growing_buffer() {
    for (head, error) in [
        ("*", FrameError::ArrayHeaderTooLong),
        ("*1\r\n$", FrameError::BulkHeaderTooLong),
        ("a", FrameError::InlineTooLong),
    ] {
        let mut input = head.as_bytes().to_vec();
        input.resize(LINE_LEN_BYTES_MAX - 8, b'1');
        assert_eq!(parse(&input), Ok(vec![]));
        input.resize(LINE_LEN_BYTES_MAX + 8, b'1');
        assert_eq!(parse(&input), Err(error));
    }
}

#[test]
fn announced_sizes_allocate_nothing() {
    let mut parser = Parser::default();
    let limits = Limits::default();
    let next = parser.next(b"*1048576\r\n$536870912\r\nabc", &limits).unwrap();
    let pending = Pending { index: 0, start: 22, len_bytes: 536_870_912, more: 1_048_575 };
    assert_eq!(next, Next::Partial { need_bytes: 22 + 536_870_912 + 2, pending: Some(pending) });
    assert!(parser.spans.capacity() <= 4);
}

#[test]
fn a_pending_body_can_go_elsewhere_and_the_rest_is_still_read() {
    let mut parser = Parser::default();
    let limits = Limits::default();
    let head = b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\nxx";
    let Ok(Next::Partial { pending: Some(pending), .. }) = parser.next(head, &limits) else {
        panic!("a pending body");
    };
    assert_eq!((pending.index, pending.len_bytes, pending.more), (2, 100_000, 2));
    assert_eq!(owned(&parser, head), words("SET k"));
    parser.after_body(pending.more);
    let rest = b"\r\n$2\r\nEX\r\n$2\r\n10\r\nPING\r\n";
    assert!(matches!(parser.next(&rest[..9], &limits), Ok(Next::Partial { .. })));
    assert_eq!(parser.next(rest, &limits), Ok(Next::Command { consumed: 18 }));
    assert_eq!(owned(&parser, rest), words("EX 10"));
    assert_eq!(parser.next(&rest[18..], &limits), Ok(Next::Command { consumed: 6 }));
}

#[test]
fn a_body_that_was_the_last_bulk_ends_in_a_command_without_arguments() {
    let (mut parser, limits) = (Parser::default(), Limits::default());
    parser.after_body(0);
    assert!(matches!(parser.next(b"\r", &limits), Ok(Next::Partial { need_bytes: 2, .. })));
    assert_eq!(parser.next(b"\r\n*1", &limits), Ok(Next::Command { consumed: 2 }));
    assert!(parser.spans().is_empty());
}

#[test]
fn unauthenticated_clients_meet_small_limits() {
    let limits = Limits { unauthenticated: true, ..Limits::default() };
    assert_eq!(drive(b"*11\r\n", &[], &limits), Err(FrameError::UnauthenticatedArray));
    assert_eq!(drive(b"*1\r\n$16385\r\n", &[], &limits), Err(FrameError::UnauthenticatedBulk));
    assert!(drive(b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n", &[], &limits).is_ok());
}

#[test]
fn inline_words_follow_the_quoting_rules() {
    let cases: &[(&[u8], &[&[u8]])] = &[
        (b"  get   key  \r\n", &[b"get", b"key"]),
        (b"get key\n", &[b"get", b"key"]),
        (b"get \"\"\r\n", &[b"get", b""]),
        (b"get \"\\x4z\"\r\n", &[b"get", b"x4z"]),
        (b"get \"\\\\ \\\"\"\r\n", &[b"get", b"\\ \""]),
        (b"get 'a\\nb'\r\n", &[b"get", b"a\\nb"]),
        (b"get a\"b c\"\r\n", &[b"get", b"ab c"]),
        (b"get a\rb\r\n", &[b"get", b"a", b"b"]),
        (b"get k\0 ignored\r\n", &[b"get", b"k"]),
    ];
    for (line, expected) in cases {
        let expected: Vec<Vec<u8>> = expected.iter().map(|w| w.to_vec()).collect();
        assert_eq!(parse(line), Ok(vec![expected]), "{}", line.escape_ascii());
    }
}

#[test]
fn a_partial_command_is_not_read_again_from_its_start() {
    // Feeding byte by byte a command of many arguments stays linear: the parser's position only
    // moves forward, so the number of spans never shrinks between calls.
    let mut input = b"*2000\r\n".to_vec();
    for _ in 0..2000 {
        input.extend_from_slice(b"$1\r\nx\r\n");
    }
    let (mut parser, limits, mut seen) = (Parser::default(), Limits::default(), 0);
    for end in 1..input.len() {
        let next = parser.next(&input[..end], &limits).unwrap();
        assert!(matches!(next, Next::Partial { .. }));
        assert!(parser.spans.len() >= seen && parser.at <= end);
        seen = parser.spans.len();
    }
    assert_eq!(parser.next(&input, &limits), Ok(Next::Command { consumed: input.len() }));
}

fn encode(commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut out = Vec::new();
    for command in commands {
        out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
        for arg in command {
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back_however_it_is_cut(
        commands in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8), 0..8),
        mut cuts in prop::collection::vec(0usize..4000, 0..8),
    ) {
        cuts.sort_unstable();
        prop_assert_eq!(drive(&encode(&commands), &cuts, &Limits::default()), Ok(commands));
    }

    #[test]
    fn random_bytes_give_the_same_result_whole_and_byte_by_byte(
        input in prop::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'"'),
                        Just(b' '), any::<u8>()], 0..200),
    ) {
        let every: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(drive(&input, &every, &Limits::default()), parse(&input));
    }
}
