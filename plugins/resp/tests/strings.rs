//! String commands, as tables of commands and replies.

mod common;
use common::script;

#[test]
fn set_and_get_honour_every_option() {
    script(&[
        ("SET k v", "+OK"),
        ("GET k", "$1 v"),
        ("SET k w NX", "$-1"),
        ("SET k w XX", "+OK"),
        ("SET k x GET", "$1 w"),
        ("SET n y NX GET", "$-1"),
        ("SET k z IFEQ no", "$-1"),
        ("SET k z IFEQ x", "+OK"),
        ("SET k a IFEQ z GET", "$1 z"),
        ("SET none a IFEQ z", "$-1"),
        ("SET k v EX 100", "+OK"),
        ("TTL k", ":100"),
        ("SET k v KEEPTTL", "+OK"),
        ("TTL k", ":100"),
        ("SET k v", "+OK"),
        ("TTL k", ":-1"),
        ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
        ("SET k v EX", "-ERR syntax error"),
        ("SET k v EX 1 KEEPTTL", "-ERR syntax error"),
        ("SET '' empty", "+OK"),
        ("GET ''", "$5 empty"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("get k k", "-ERR wrong number of arguments for 'get' command"),
    ])
    .run();
}

#[test]
fn a_value_lives_exactly_as_long_as_it_was_told() {
    script(&[("SET k v PX 500", "+OK")])
        .advance_ms(499)
        .steps([(common::command("GET k"), common::reply("$1 v"))])
        .advance_ms(1)
        .steps([
            (common::command("GET k"), common::reply("$-1")),
            (common::command("SET k w NX"), common::reply("+OK")),
            (common::command("TTL k"), common::reply(":-1")),
        ])
        .run();
}

#[test]
fn counters_follow_the_rules_of_signed_integers() {
    let number = "-ERR value is not an integer or out of range";
    let overflow = "-ERR increment or decrement would overflow";
    script(&[
        ("INCR n", ":1"),
        ("DECRBY n 10", ":-9"),
        ("INCRBY n 9", ":0"),
        ("SET n 9223372036854775807", "+OK"),
        ("INCR n", overflow),
        ("GET n", "$19 9223372036854775807"),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
        ("SET n abc", "+OK"),
        ("INCR n", number),
        ("INCRBY n 1.5", number),
        ("SET n 10 EX 100", "+OK"),
        ("INCR n", ":11"),
        ("TTL n", ":100"),
        ("INCRBYFLOAT n 0.1", "$4 11.1"),
        ("TTL n", ":100"),
        ("INCRBYFLOAT n x", "-ERR value is not a valid float"),
        ("SET n x", "+OK"),
        ("INCRBYFLOAT n 1", "-ERR value is not a valid float"),
        ("DECR fresh", ":-1"),
        ("INCRBYFLOAT other 1e2", "$3 100"),
    ])
    .run();
}

#[test]
fn parts_of_values_are_read_and_written() {
    script(&[
        ("APPEND k Hello", ":5"),
        ("APPEND k World", ":10"),
        ("GETRANGE k 0 4", "$5 Hello"),
        ("SUBSTR k -5 -1", "$5 World"),
        ("SETRANGE k 5 There", ":10"),
        ("GET k", "$10 HelloThere"),
        ("SETRANGE none 3 ''", ":0"),
        ("EXISTS none", ":0"),
        ("SETRANGE k -1 x", "-ERR offset is out of range"),
        ("SETRANGE k 536870912 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("STRLEN k", ":10"),
        ("GETSET k v", "$10 HelloThere"),
        ("GETDEL k", "$1 v"),
        ("GETDEL k", "$-1"),
    ])
    .run();
}

#[test]
fn many_keys_are_set_and_read_together() {
    script(&[
        ("MSET a 1 b 2", "+OK"),
        ("MGET a x b", "*3 $1 1 $-1 $1 2"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
        ("MSETNX b 3 c 4", ":0"),
        ("EXISTS c", ":0"),
        ("MSETNX c 4 d 5 c 6", ":1"),
        ("MGET c d", "*2 $1 6 $1 5"),
        ("MSETEX 2 a 7 e 8 NX", ":0"),
        ("MSETEX 2 a 7 b 8 XX EX 100", ":1"),
        ("TTL b", ":100"),
        ("MSETEX 1 f 9", ":1"),
        ("MSETEX 0 f 9", "-ERR invalid numkeys value"),
        ("MSETEX 9 f 9", "-ERR wrong number of arguments for 'msetex' command"),
        ("DEL a b x a", ":2"),
        ("DELIFEQ f 8", ":0"),
        ("DELIFEQ f 9", ":1"),
        ("DELIFEQ f 9", ":0"),
    ])
    .run();
}

#[test]
fn getex_sets_or_takes_the_time_to_live_as_it_reads() {
    script(&[
        ("SET k v", "+OK"),
        ("GETEX k EX 100", "$1 v"),
        ("TTL k", ":100"),
        ("GETEX k", "$1 v"),
        ("TTL k", ":100"),
        ("GETEX k PERSIST", "$1 v"),
        ("TTL k", ":-1"),
        ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command"),
        ("GETEX none EX x", "$-1"),
        ("GETEX k NX", "-ERR syntax error"),
        ("GETEX k EXAT 1", "$1 v"),
        ("GET k", "$-1"),
    ])
    .run();
}

#[test]
fn bits_are_set_counted_found_and_combined() {
    script(&[
        ("SETBIT b 7 1", ":0"),
        ("SETBIT b 7 1", ":1"),
        ("GETBIT b 7", ":1"),
        ("GETBIT b 700", ":0"),
        ("BITCOUNT b", ":1"),
        ("BITCOUNT b 0 -1 BIT", ":1"),
        ("BITPOS b 1", ":7"),
        ("BITPOS b 0", ":0"),
        ("SETBIT b 4294967296 1", "-ERR bit offset is not an integer or out of range"),
        ("SETBIT b 1 2", "-ERR bit is not an integer or out of range"),
        ("SET x abc", "+OK"),
        ("BITOP XOR y x x", ":3"),
        ("BITCOUNT y", ":0"),
        ("BITOP NOT y x x", "-ERR BITOP NOT must be called with a single source key."),
        ("BITOP AND y none", ":0"),
        ("EXISTS y", ":0"),
        ("BITFIELD f SET u8 0 200 INCRBY u8 0 100 OVERFLOW FAIL INCRBY u8 0 250", "*3 :0 :44 $-1"),
        ("BITFIELD_RO f GET u8 0", "*1 :44"),
        ("BITFIELD_RO f SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"),
    ])
    .run();
}

#[test]
fn lcs_answers_text_length_and_runs() {
    script(&[
        ("MSET a ohmytext b mynewtext", "+OK"),
        ("LCS a b", "$6 mytext"),
        ("LCS a b LEN", ":6"),
        (
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            "*4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6",
        ),
        ("LCS a b LEN IDX", "-ERR If you want both the length and indexes, please just use IDX."),
    ])
    .run();
}
