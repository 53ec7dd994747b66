//! Operations as the boundary brings them, in tables: what is asked, what is
//! answered, what is left.

use std::collections::BTreeMap;

use crucible_plugin_api::{
    Answers, Condition, Datum, Element, Op, Opts, Status, StructAnswer, StructFlags, StructOp,
};
use structs::{Ctx, Held, Limits, Object, Rng, Slot, apply};

/// A store of slots, and what one operation needs.
struct Store {
    keys: BTreeMap<Vec<u8>, Slot>,
    answers: Answers,
    rng: Rng,
    limits: Limits,
    now_ms: u64,
}

/// An answer as text: status, number, elements.
struct Got {
    status: Status,
    number: i64,
    elements: Vec<String>,
    written: bool,
}

impl Store {
    fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            answers: Answers::new(),
            rng: Rng::new(5),
            limits: Limits::default(),
            now_ms: 1000,
        }
    }

    fn run(&mut self, op: &Op<'_>) -> Got {
        let call = op.struct_call().expect("an operation on a structure");
        let names: Vec<&[u8]> = call.all_keys().collect();
        let mut slots: Vec<Slot> =
            names.iter().map(|key| self.keys.remove(*key).unwrap_or_default()).collect();
        self.answers.clear();
        let mut out = self.answers.begin();
        let mut ctx = Ctx { now_ms: self.now_ms, rng: &mut self.rng, limits: &self.limits };
        apply(&call, &mut ctx, &mut slots, &mut out);
        let got = got(&out);
        for (key, slot) in names.into_iter().zip(slots) {
            if let Held::Object(object) = &slot.held {
                assert!(!object.is_empty(), "no empty object is kept");
            }
            if !slot.is_absent() {
                self.keys.insert(key.to_vec(), slot);
            }
        }
        got
    }

    /// Runs and compares status, number and elements.
    #[track_caller]
    fn expect(&mut self, op: Op<'_>, status: Status, number: i64, elements: &[&str]) {
        let got = self.run(&op);
        assert_eq!((got.status, got.number), (status, number));
        assert_eq!(got.elements, elements);
    }

    fn object(&self, key: &str) -> &Object {
        match &self.keys[key.as_bytes()].held {
            Held::Object(object) => object,
            other => panic!("no object: {other:?}"),
        }
    }
}

fn got(out: &StructAnswer<'_>) -> Got {
    let text = |element: &Element<'_>| match element.get() {
        Datum::Nil => "nil".to_owned(),
        Datum::Int(number) => format!(":{number}"),
        Datum::Double(number) => format!(",{number}"),
        Datum::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    Got {
        status: out.status(),
        number: out.number(),
        elements: out.elements().iter().map(text).collect(),
        written: out.is_write(),
    }
}

/// Elements of words: `,1.5` is a double, `:7` a number, else bytes.
fn elements<'a>(words: &[&'a str]) -> Vec<Element<'a>> {
    words
        .iter()
        .map(|word| match (word.strip_prefix(','), word.strip_prefix(':')) {
            (Some(double), _) => Element::double(double.parse().expect("a double")),
            (_, Some(number)) => Element::int(number.parse().expect("a number")),
            _ => Element::bytes(word.as_bytes()),
        })
        .collect()
}

/// `op!(CODE key [args] [keys] (first, second) FLAG|FLAG)`.
macro_rules! run {
    ($store:expr, $code:ident $key:literal [$($arg:literal)*] [$($other:literal)*] ($first:expr, $second:expr) [$($flag:ident)*]
     => $status:ident $number:literal [$($element:literal)*]) => {{
        let args = elements(&[$($arg),*]);
        let keys = elements(&[$($other),*]);
        let flags = StructFlags::NONE $( | StructFlags::$flag)*;
        let op = Op::structure(StructOp::$code, $key.as_bytes())
            .args(&args)
            .keys(&keys)
            .numbers($first, $second)
            .with_flags(flags);
        $store.expect(op, Status::$status, $number, &[$($element),*]);
    }};
    ($store:expr, $code:ident $key:literal [$($arg:literal)*] ($first:expr, $second:expr) [$($flag:ident)*] => $($rest:tt)*) => {
        run!($store, $code $key [$($arg)*] [] ($first, $second) [$($flag)*] => $($rest)*)
    };
    ($store:expr, $code:ident $key:literal [$($arg:literal)*] [$($flag:ident)*] => $($rest:tt)*) => {
        run!($store, $code $key [$($arg)*] [] (0, 0) [$($flag)*] => $($rest)*)
    };
}

#[test]
fn hashes_answer_as_redis_does() {
    let mut s = Store::new();
    run!(s, HASH_SET "h" ["a" "1" "b" "2"] [] => OK 2 []);
    run!(s, HASH_SET "h" ["a" "3" "c" "x"] [] => OK 1 []);
    run!(s, HASH_SET "h" ["a" "9"] [IF_NEW] => NOT_STORED 0 []);
    run!(s, HASH_SET "h" ["d" "9" "a" "9"] [IF_HELD] => NOT_STORED 0 []);
    run!(s, HASH_SET "h" ["a"] [] => INVALID 0 []);
    run!(s, HASH_GET "h" ["a" "zz" "c"] [] => OK 0 ["3" "nil" "x"]);
    run!(s, HASH_GET "none" ["a"] [] => MISS 0 ["nil"]);
    run!(s, HASH_GETALL "h" [] [] => OK 3 ["a" "3" "b" "2" "c" "x"]);
    run!(s, HASH_GETALL "h" [] [FIELDS_ONLY] => OK 3 ["a" "b" "c"]);
    run!(s, HASH_GETALL "h" [] [VALUES_ONLY] => OK 3 ["3" "2" "x"]);
    run!(s, HASH_LEN "h" [] [] => OK 3 []);
    run!(s, HASH_EXISTS "h" ["a" "q"] [] => OK 1 []);
    run!(s, HASH_STRLEN "h" ["a"] [] => OK 1 []);
    run!(s, HASH_INCR "h" ["a"] (39, 0) [] => OK 42 []);
    run!(s, HASH_INCR "h" ["c"] (1, 0) [] => NOT_NUMBER 0 []);
    run!(s, HASH_INCR "h" ["a"] (i64::MAX, 0) [] => OVERFLOW 0 []);
    run!(s, HASH_INCR_FLOAT "h" ["a" "0.5"] [] => OK 0 ["42.5"]);
    run!(s, HASH_INCR_FLOAT "h" ["c" "1"] [] => NOT_FLOAT 0 []);
    run!(s, HASH_INCR_FLOAT "h" ["a" "inf"] [] => NOT_FINITE 0 []);
    run!(s, HASH_RANDOM "h" [] (10, 0) [WITH_VALUES] => OK 0 ["a" "42.5" "b" "2" "c" "x"]);
    run!(s, HASH_SCAN "h" [] [FIELDS_ONLY] => OK 0 ["a" "b" "c"]);
    run!(s, HASH_GETDEL "h" ["b" "b"] [] => OK 1 ["2" "nil"]);
    run!(s, HASH_DEL "h" ["a" "c" "q"] [] => OK 2 []);
    assert!(s.keys.is_empty(), "the key goes with its last field");
    run!(s, HASH_SET "h" ["a" "1" "b" "2"] [] => OK 2 []);
    run!(s, HASH_DEL "h" [] [] => OK 2 []);
    assert!(s.keys.is_empty(), "no fields are all fields");
    run!(s, HASH_INCR "h" ["n"] (-5, 0) [] => OK -5 []);
    run!(s, HASH_SET "h" ["only" "this"] [REPLACE] => OK 1 []);
    run!(s, HASH_GETALL "h" [] [] => OK 1 ["only" "this"]);
    run!(s, HASH_SET "h" [] [REPLACE] => OK 0 []);
    assert!(s.keys.is_empty());
}

#[test]
fn fields_expire_one_by_one_and_the_key_with_the_last() {
    let mut s = Store::new();
    run!(s, HASH_EXPIRE "h" ["a"] (0, 2000) [] => MISS 0 [":-2"]);
    run!(s, HASH_SET "h" ["a" "1" "b" "2"] (0, 1500) [FIELD_TTL] => OK 2 []);
    run!(s, HASH_SET "h" ["c" "3"] [] => OK 1 []);
    run!(s, HASH_DEADLINE "h" ["a" "c" "x"] [] => OK 0 [":1500" ":-1" ":-2"]);
    run!(s, HASH_SET "h" ["a" "11"] [KEEP_FIELD_TTL] => OK 0 []);
    run!(s, HASH_SET "h" ["b" "22"] [] => OK 0 []);
    run!(s, HASH_DEADLINE "h" ["a" "b"] [] => OK 0 [":1500" ":-1"]);
    let fields = elements(&["a", "b"]);
    let expire = |at: i64, opts| {
        Op::structure(StructOp::HASH_EXPIRE, b"h").args(&fields).numbers(0, at).opts(opts)
    };
    s.expect(expire(1400, Opts::IF_NO_TTL), Status::OK, 0, &[":0", ":1"]);
    s.expect(expire(1450, Opts::IF_LATER), Status::OK, 0, &[":0", ":1"]);
    s.expect(expire(1600, Opts::IF_EARLIER), Status::OK, 0, &[":0", ":0"]);
    s.expect(expire(1700, Opts::IF_TTL), Status::OK, 0, &[":1", ":1"]);
    run!(s, HASH_PERSIST "h" ["a" "a" "x"] [] => OK 0 [":1" ":-1" ":-2"]);
    run!(s, HASH_GETEX "h" ["a"] (0, 1800) [FIELD_TTL] => OK 0 ["11"]);
    run!(s, HASH_GETEX "h" ["a" "x"] [PERSIST] => OK 0 ["11" "nil"]);
    run!(s, HASH_EXPIRE "h" ["a" "c"] (0, 999) [] => OK 0 [":2" ":2"]);
    s.now_ms = 1699;
    run!(s, HASH_LEN "h" [] [] => OK 1 []);
    s.now_ms = 1700;
    run!(s, HASH_GET "h" ["b"] [] => MISS 0 ["nil"]);
    assert!(s.keys.is_empty());
    run!(s, HASH_SET "h" ["a" "1"] (0, 5) [FIELD_TTL] => OK 0 []);
    assert!(s.keys.is_empty(), "a deadline that has passed makes no key");
}

#[test]
fn lists_answer_as_redis_does() {
    let mut s = Store::new();
    run!(s, LIST_PUSH "l" ["a" "b" "c"] [] => OK 3 []);
    run!(s, LIST_PUSH "l" ["x" "y"] [LEFT] => OK 5 []);
    run!(s, LIST_RANGE "l" [] (0, -1) [] => OK 0 ["y" "x" "a" "b" "c"]);
    run!(s, LIST_RANGE "l" [] (-2, 99) [] => OK 0 ["b" "c"]);
    run!(s, LIST_RANGE "l" [] (3, 1) [] => OK 0 []);
    run!(s, LIST_RANGE "none" [] (0, -1) [] => MISS 0 []);
    run!(s, LIST_INDEX "l" [] (-1, 0) [] => OK 0 ["c"]);
    run!(s, LIST_INDEX "l" [] (5, 0) [] => OK 0 []);
    run!(s, LIST_SET "l" ["A"] (2, 0) [] => OK 5 []);
    run!(s, LIST_SET "l" ["A"] (-6, 0) [] => OUT_OF_RANGE 0 []);
    run!(s, LIST_SET "none" ["A"] (0, 0) [] => MISS 0 []);
    run!(s, LIST_INSERT "l" ["A" "before"] [BEFORE] => OK 6 []);
    run!(s, LIST_INSERT "l" ["c" "last"] [] => OK 7 []);
    run!(s, LIST_INSERT "l" ["?" "last"] [] => OK -1 []);
    run!(s, LIST_INSERT "none" ["?" "last"] [] => MISS 0 []);
    run!(s, LIST_RANGE "l" [] (0, -1) [] => OK 0 ["y" "x" "before" "A" "b" "c" "last"]);
    run!(s, LIST_POP "l" [] (2, 0) [LEFT] => OK 5 ["y" "x"]);
    run!(s, LIST_POP "l" [] (1, 0) [] => OK 4 ["last"]);
    run!(s, LIST_TRIM "l" [] (1, -2) [] => OK 2 []);
    run!(s, LIST_RANGE "l" [] (0, -1) [] => OK 0 ["A" "b"]);
    run!(s, LIST_TRIM "l" [] (5, 9) [] => OK 0 []);
    assert!(s.keys.is_empty());
    run!(s, LIST_PUSH "l" ["a" "b" "a" "c" "a" "b" "a"] [] => OK 7 []);
    run!(s, LIST_POS "l" ["a" ":1" ":0" ":0"] [] => OK 0 [":0" ":2" ":4" ":6"]);
    run!(s, LIST_POS "l" ["a" ":-2" ":2" ":0"] [] => OK 0 [":4" ":2"]);
    run!(s, LIST_POS "l" ["b" ":1" ":1" ":1"] [] => OK 0 []);
    run!(s, LIST_POS "l" ["a" ":2" ":1" ":3"] [] => OK 0 [":2"]);
    run!(s, LIST_REMOVE "l" ["a"] (-2, 0) [] => OK 2 []);
    run!(s, LIST_REMOVE "l" ["a"] (1, 0) [] => OK 1 []);
    run!(s, LIST_RANGE "l" [] (0, -1) [] => OK 0 ["b" "a" "c" "b"]);
    run!(s, LIST_REMOVE "l" ["b"] (0, 0) [] => OK 2 []);
    run!(s, LIST_ERASE "l" [":0" ":1" ":1" ":5"] [] => OK 0 []);
    assert!(s.keys.is_empty());
    run!(s, LIST_PUSH "l" ["1" "2" "3" "4"] (0, 3) [] => OK 3 []);
    run!(s, LIST_RANGE "l" [] (0, -1) [] => OK 0 ["2" "3" "4"]);
    run!(s, LIST_PUSH "l" ["1" "0"] (0, 3) [LEFT] => OK 3 []);
    run!(s, LIST_RANGE "l" [] (0, -1) [] => OK 0 ["0" "1" "2"]);
    let args = elements(&["v"]);
    let pushx = Op::structure(StructOp::LIST_PUSH, b"none").args(&args);
    s.expect(pushx.condition(Condition::IF_PRESENT), Status::MISS, 0, &[]);
}

#[test]
fn values_move_between_lists_in_one_step() {
    let mut s = Store::new();
    run!(s, LIST_PUSH "a" ["1" "2" "3"] [] => OK 3 []);
    run!(s, LIST_MOVE "a" [] ["b"] (0, 0) [LEFT] => OK 0 ["1"]);
    run!(s, LIST_MOVE "a" [] ["b"] (0, 0) [TO_LEFT] => OK 0 ["3"]);
    run!(s, LIST_MOVE "a" [] ["a"] (0, 0) [LEFT] => OK 0 ["2"]);
    run!(s, LIST_MOVE "a" [] ["b"] (0, 0) [LEFT TO_LEFT] => OK 0 ["2"]);
    assert!(!s.keys.contains_key(&b"a"[..]));
    run!(s, LIST_MOVE "a" [] ["b"] (0, 0) [] => MISS 0 []);
    run!(s, LIST_MOVE "b" [] ["b"] (0, 0) [TO_LEFT] => OK 0 ["1"]);
    run!(s, LIST_RANGE "b" [] (0, -1) [] => OK 0 ["1" "2" "3"]);
    run!(s, SET_ADD "s" ["m"] [] => OK 1 []);
    run!(s, LIST_MOVE "b" [] ["s"] (0, 0) [] => WRONG_TYPE 0 []);
    run!(s, LIST_MPOP "a" [] ["x" "b" "s"] (2, 0) [LEFT] => OK 2 ["1" "2"]);
    run!(s, LIST_MPOP "b" [] ["s"] (2, 0) [] => OK 0 ["3"]);
    run!(s, LIST_MPOP "b" [] ["s"] (2, 0) [] => WRONG_TYPE 0 []);
    run!(s, LIST_MPOP "b" [] ["x"] (2, 0) [] => MISS 0 []);
}

#[test]
fn sets_answer_as_redis_does() {
    let mut s = Store::new();
    run!(s, SET_ADD "s" ["1" "2" "1" "3"] [] => OK 3 []);
    run!(s, ENCODING "s" [] [] => OK 0 ["intset"]);
    run!(s, SET_MEMBERS "s" [] [] => OK 3 ["1" "2" "3"]);
    run!(s, SET_ADD "s" ["x"] [] => OK 1 []);
    run!(s, SET_HAS "s" ["2" "02" "x"] [] => OK 2 [":1" ":0" ":1"]);
    run!(s, SET_HAS "none" ["2" "x"] [] => MISS 0 [":0" ":0"]);
    run!(s, SET_REMOVE "s" ["2" "y"] [] => OK 1 []);
    run!(s, SET_LEN "s" [] [] => OK 3 []);
    run!(s, SET_MOVE "s" ["x"] ["t"] (0, 0) [] => OK 1 []);
    run!(s, SET_MOVE "s" ["x"] ["t"] (0, 0) [] => OK 0 []);
    run!(s, SET_MOVE "t" ["x"] ["t"] (0, 0) [] => OK 1 []);
    run!(s, SET_ADD "a" ["1" "2" "3" "4"] [] => OK 4 []);
    run!(s, SET_ADD "b" ["3" "4" "5"] [] => OK 3 []);
    run!(s, SET_INTER "a" [] ["b" "a"] (0, 0) [] => OK 2 ["3" "4"]);
    run!(s, SET_INTER "a" [] ["none"] (0, 0) [] => OK 0 []);
    run!(s, SET_INTER "a" [] ["b"] (1, 0) [CARD_ONLY] => OK 1 []);
    run!(s, SET_UNION "a" [] ["none" "b"] (0, 0) [] => OK 5 ["1" "2" "3" "4" "5"]);
    run!(s, SET_UNION "a" [] ["b"] (0, 0) [] => OK 5 ["1" "2" "3" "4" "5"]);
    run!(s, SET_UNION "a" [] ["a"] (0, 0) [CARD_ONLY] => OK 4 []);
    run!(s, SET_DIFF "a" [] ["b" "none"] (0, 0) [] => OK 2 ["1" "2"]);
    run!(s, SET_DIFF "a" [] ["a"] (0, 0) [] => OK 0 []);
    run!(s, SET_DIFF "a" [] ["a" "b"] (0, 0) [STORE] => OK 2 []);
    run!(s, SET_MEMBERS "a" [] [] => OK 2 ["1" "2"]);
    run!(s, SET_INTER "a" [] ["a" "b"] (0, 0) [STORE] => OK 0 []);
    assert!(!s.keys.contains_key(&b"a"[..]), "an empty outcome removes the destination");
    run!(s, SET_COMPLEMENT "b" ["5" "6" "7" "6"] [] => OK 2 []);
    run!(s, SET_MEMBERS "b" [] [] => OK 2 ["6" "7"]);
    run!(s, SET_COMPLEMENT "none" ["1"] [] => MISS 0 []);
    assert!(!s.keys.contains_key(&b"none"[..]), "nothing is made of a set that is not there");
    run!(s, SET_ADD "all" ["1" "x"] [] => OK 2 []);
    run!(s, SET_COMPLEMENT "all" ["1" "x"] [] => OK 0 []);
    assert!(!s.keys.contains_key(&b"all"[..]), "an empty outcome removes the set");
    run!(s, SET_POP "b" [] (9, 0) [] => OK 0 ["6" "7"]);
    assert!(!s.keys.contains_key(&b"b"[..]));
}

#[test]
fn sorted_sets_answer_as_redis_does() {
    let mut s = Store::new();
    run!(s, ZSET_ADD "z" [",1" "a" ",2" "b" ",3" "c"] [] => OK 3 []);
    run!(s, ZSET_ADD "z" [",1.5" "a" ",4" "d"] [COUNT_CHANGED] => OK 2 []);
    run!(s, ZSET_ADD "z" [",9" "a" ",9" "e"] [IF_HELD] => OK 0 []);
    run!(s, ZSET_ADD "z" [",1" "a" ",5" "e"] [IF_NEW] => OK 1 []);
    run!(s, ZSET_ADD "z" [",8" "a" ",2" "c"] [GREATER COUNT_CHANGED] => OK 0 []);
    run!(s, ZSET_ADD "z" [",1" "a" ",9" "c"] [LESS COUNT_CHANGED] => OK 1 []);
    run!(s, ZSET_ADD "z" [",0.5" "a"] [INCR] => OK 0 [",1.5"]);
    run!(s, ZSET_ADD "z" [",-1" "a"] [INCR GREATER] => OK 0 ["nil"]);
    run!(s, ZSET_ADD "z" [",1" "new"] [INCR IF_HELD] => OK 0 ["nil"]);
    run!(s, ZSET_ADD "z" [",inf" "i"] [] => OK 1 []);
    run!(s, ZSET_ADD "z" [",-inf" "i"] [INCR] => NOT_FINITE 0 []);
    run!(s, ZSET_REMOVE "z" ["i" "j"] [] => OK 1 []);
    run!(s, ZSET_RANGE "z" [] (0, -1) [WITH_SCORES] => OK 0
        ["a" ",1.5" "b" ",2" "c" ",3" "d" ",4" "e" ",5"]);
    run!(s, ZSET_RANGE "z" [] (0, 1) [REV] => OK 0 ["e" "d"]);
    run!(s, ZSET_RANGE "z" [] (-2, -1) [REV] => OK 0 ["b" "a"]);
    run!(s, ZSET_RANGE "z" [",2" ",4"] (0, -1) [BY_SCORE] => OK 0 ["b" "c" "d"]);
    run!(s, ZSET_RANGE "z" [",2" ",4"] (0, -1) [BY_SCORE MIN_OPEN MAX_OPEN] => OK 0 ["c"]);
    run!(s, ZSET_RANGE "z" [",-inf" ",inf"] (1, 2) [BY_SCORE REV] => OK 0 ["d" "c"]);
    run!(s, ZSET_RANGE "z" [",-inf" ",inf"] (9, 2) [BY_SCORE] => OK 0 []);
    run!(s, ZSET_COUNT "z" [",2" ",inf"] [BY_SCORE MIN_OPEN] => OK 3 []);
    run!(s, ZSET_RANK "z" ["b"] [] => OK 1 [",2"]);
    run!(s, ZSET_RANK "z" ["b"] [REV] => OK 3 [",2"]);
    run!(s, ZSET_RANK "z" ["zz"] [] => MISS 0 []);
    run!(s, ZSET_SCORE "z" ["a" "q"] [] => OK 0 [",1.5" "nil"]);
    run!(s, ZSET_POP "z" [] (1, 0) [] => OK 0 ["a" ",1.5"]);
    run!(s, ZSET_POP "z" [] (2, 0) [REV] => OK 0 ["e" ",5" "d" ",4"]);
    run!(s, ZSET_MPOP "none" [] ["z"] (9, 0) [] => OK 1 ["b" ",2" "c" ",3"]);
    assert!(s.keys.is_empty());
    run!(s, ZSET_ADD "l" [",0" "a" ",0" "b" ",0" "c" ",0" "d"] [] => OK 4 []);
    run!(s, ZSET_RANGE "l" ["b" ":1"] (0, -1) [BY_LEX] => OK 0 ["b" "c" "d"]);
    run!(s, ZSET_RANGE "l" [":-1" "c"] (0, -1) [BY_LEX REV MAX_OPEN] => OK 0 ["b" "a"]);
    run!(s, ZSET_RANGE "l" [":1" ":-1"] (0, -1) [BY_LEX] => OK 0 []);
    run!(s, ZSET_COUNT "l" ["a" "c"] [BY_LEX MIN_OPEN] => OK 2 []);
    run!(s, ZSET_REMOVE_RANGE "l" ["b" "c"] [BY_LEX] => OK 2 []);
    run!(s, ZSET_REMOVE_RANGE "l" [] (0, 0) [] => OK 1 []);
    run!(s, ZSET_REMOVE_RANGE "l" [",0" ",1"] [BY_SCORE] => OK 1 []);
    assert!(s.keys.is_empty());
}

#[test]
fn sorted_sets_join_with_weights() {
    let mut s = Store::new();
    run!(s, ZSET_ADD "a" [",1" "x" ",2" "y"] [] => OK 2 []);
    run!(s, ZSET_ADD "b" [",10" "y" ",20" "z"] [] => OK 2 []);
    run!(s, SET_ADD "s" ["x" "y"] [] => OK 2 []);
    run!(s, ZSET_UNION "a" [] ["b"] (0, 0) [WITH_SCORES] => OK 3 ["x" ",1" "y" ",12" "z" ",20"]);
    run!(s, ZSET_UNION "a" [",2" ",-1"] ["b"] (0, 0) [WITH_SCORES] => OK 3 ["z" ",-20" "y" ",-6" "x" ",2"]);
    run!(s, ZSET_UNION "a" [] ["b"] (0, 0) [WITH_SCORES AGGREGATE_MAX] => OK 3 ["x" ",1" "y" ",10" "z" ",20"]);
    run!(s, ZSET_INTER "a" [] ["b" "s"] (0, 0) [WITH_SCORES] => OK 1 ["y" ",13"]);
    run!(s, ZSET_INTER "a" [] ["s"] (1, 0) [CARD_ONLY] => OK 1 []);
    run!(s, ZSET_INTER "a" [] ["b" "s"] (0, 0) [WITH_SCORES AGGREGATE_MIN] => OK 1 ["y" ",1"]);
    run!(s, ZSET_DIFF "a" [] ["b"] (0, 0) [WITH_SCORES] => OK 1 ["x" ",1"]);
    run!(s, ZSET_UNION "d" [",1"] ["a" "b"] (0, 0) [STORE] => INVALID 0 []);
    run!(s, ZSET_UNION "d" [] ["a" "b"] (0, 0) [STORE] => OK 3 []);
    run!(s, ZSET_RANGE "d" [] ["d"] (1, 2) [STORE] => OK 2 []);
    run!(s, ZSET_RANGE "d" [] (0, -1) [] => OK 0 ["y" "z"]);
    run!(s, ZSET_RANGE "d" [",100" ",200"] ["a"] (0, -1) [STORE BY_SCORE] => OK 0 []);
    assert!(!s.keys.contains_key(&b"d"[..]));
    run!(s, ZSET_ADD "i" [",inf" "x"] [] => OK 1 []);
    run!(s, ZSET_ADD "j" [",-inf" "x"] [] => OK 1 []);
    run!(s, ZSET_UNION "i" [] ["j"] (0, 0) [WITH_SCORES] => OK 1 ["x" ",0"]);
    run!(s, ZSET_UNION "i" [",0" ",0"] ["j"] (0, 0) [WITH_SCORES] => OK 1 ["x" ",0"]);
}

#[test]
fn a_key_of_another_kind_is_refused_and_left_alone() {
    let mut s = Store::new();
    run!(s, LIST_PUSH "l" ["v"] [] => OK 1 []);
    s.keys.insert(b"str".to_vec(), Slot { held: Held::Other, expires_at_ms: 7 });
    for op in StructOp::ALL {
        let kind = match op.0 {
            32..=44 => "str",
            ..=110 => "l",
            _ => continue,
        };
        for key in ["str", kind] {
            let args = elements(&[",1", "m"]);
            let keys = elements(&["l"]);
            let single = !matches!(op.0, 34 | 42 | 71..=74 | 105 | 108..=110);
            let keys = if single { &[][..] } else { &keys[..] };
            let call = Op::structure(op, key.as_bytes()).args(&args).keys(keys).numbers(1, 1);
            assert_eq!(s.run(&call).status, Status::WRONG_TYPE, "{op:?} on {key}");
        }
    }
    assert_eq!(s.object("l").len(), 1);
    assert_eq!(s.keys[&b"str"[..]].expires_at_ms, 7);
    run!(s, SET_ADD "str" ["m"] [REPLACE] => OK 1 []);
    run!(s, SET_UNION "l" [] ["str"] (0, 0) [STORE] => OK 1 []);
    run!(s, SET_MEMBERS "l" [] [] => OK 1 ["m"]);
    run!(s, ZSET_ADD "l" [",1" "m" ",2"] [REPLACE] => INVALID 0 []);
    run!(s, SET_MEMBERS "l" [] [] => OK 1 ["m"]);
}

#[test]
fn keys_take_a_deadline_when_they_are_made() {
    let mut s = Store::new();
    let args = elements(&["a", "b"]);
    let push = |at| Op::structure(StructOp::LIST_PUSH, b"l").args(&args).expires_at(at);
    s.run(&push(5000));
    assert_eq!(s.keys[&b"l"[..]].expires_at_ms, 5000);
    s.run(&push(6000));
    assert_eq!(s.keys[&b"l"[..]].expires_at_ms, 5000, "a present key keeps its own");
    s.run(&push(6000).opts(Opts::SET_EXPIRY));
    assert_eq!(s.keys[&b"l"[..]].expires_at_ms, 6000);
    run!(s, RENAME "l" [] ["m"] (0, 0) [] => OK 1 []);
    assert_eq!(s.keys[&b"m"[..]].expires_at_ms, 6000, "it goes along with a new name");
    run!(s, LIST_PUSH "n" ["v"] [] => OK 1 []);
    run!(s, RENAME "m" [] ["n"] (0, 0) [IF_NEW] => OK 0 []);
    run!(s, RENAME "gone" [] ["n"] (0, 0) [] => MISS 0 []);
    run!(s, COPY "m" [] ["n"] (0, 0) [] => OK 0 []);
    run!(s, COPY "m" [] ["n"] (0, 0) [REPLACE] => OK 1 []);
    assert_eq!(s.keys[&b"n"[..]].expires_at_ms, 6000);
    run!(s, LIST_REMOVE "n" ["a"] (0, 0) [] => OK 3 []);
    run!(s, LIST_LEN "m" [] [] => OK 6 []);
}

#[test]
fn reads_say_nothing_of_a_change_and_writes_do() {
    let mut s = Store::new();
    let args = elements(&["f", "1"]);
    let run = |s: &mut Store, op| {
        let call = Op::structure(op, b"h").args(&args).numbers(1, 9000);
        (s.run(&call).written, op.writes(StructFlags::NONE))
    };
    for op in StructOp::ALL.into_iter().filter(|op| op.0 <= 16) {
        run(&mut s, StructOp::HASH_SET);
        let (written, writes) = run(&mut s, op);
        assert!(!written || writes, "{op:?} wrote");
    }
    run!(s, MEMORY "none" [] [] => MISS 0 []);
    let memory = Op::structure(StructOp::MEMORY, b"h");
    run(&mut s, StructOp::HASH_SET);
    assert_eq!(s.run(&memory).number, (s.object("h").bytes() + size_of::<Object>()) as i64);
    let unknown = Op::structure(StructOp(999), b"h");
    assert_eq!(s.run(&unknown).status, Status::UNSUPPORTED);
}

#[test]
fn a_scan_survives_the_change_from_small_to_large() {
    let mut s = Store::new();
    let names: Vec<String> = (0..1000).map(|i| format!("m{i}")).collect();
    for name in &names[..100] {
        let args = [Element::bytes(name.as_bytes())];
        s.run(&Op::structure(StructOp::SET_ADD, b"s").args(&args));
    }
    let scan = |s: &mut Store, cursor| {
        s.run(&Op::structure(StructOp::SET_SCAN, b"s").cursor(cursor).numbers(7, 0))
    };
    let first = scan(&mut s, 0);
    assert_eq!((first.number, first.elements.len()), (0, 100), "a small one comes at once");
    for name in &names[100..] {
        let args = [Element::bytes(name.as_bytes())];
        s.run(&Op::structure(StructOp::SET_ADD, b"s").args(&args));
    }
    let (mut seen, mut cursor) = (std::collections::BTreeSet::new(), 0);
    loop {
        let got = scan(&mut s, cursor);
        seen.extend(got.elements);
        cursor = got.number.cast_unsigned();
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 1000);
}
