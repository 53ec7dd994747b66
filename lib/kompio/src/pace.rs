//! How long a loop waits for company: three ways to wait for completions, and which of them costs
//! the least processor time under the load of this moment.
//!
//! A wait for more shares a sweep's fixed cost and its wake-up among more requests. It also lets
//! the peers run dry, so that each of our sends has to wake a sleeping thread, which costs more
//! than it saved. Which of the two wins depends on the clients, the network and the processor, so
//! it is measured: the worker's own CPU time for each completion, over some thousands of them.
//!
//! What must always be true: a way other than [`Way::First`] is only tried while completions come
//! in numbers, and is given up when it does not pay; trials become rare while they change nothing.
//! Called by the worker before and after each wait.

use std::time::Duration;

/// A way to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Until anything completes; the sends of the same submission do at once.
    First,
    /// Until anything completes beyond the sends.
    PastSends,
    /// Until as much completes as in the sweep before, beyond the sends: the kernel delivers no
    /// more at a time than what is waited for (and 20).
    Backlog,
}

const WAYS: [Way; 3] = [Way::First, Way::PastSends, Way::Backlog];

/// Completions of a sweep, beyond its sends, from which on a wait may be for more than one.
const SEVERAL: u32 = 4;
/// The same for a backlog.
const FULL: u32 = 16;
/// Completions over which the cost of a way is taken.
const EPOCH_NEWS: u32 = 1024;
/// Epochs of each way in a trial, one after the other in turn, so that what else goes on in the
/// machine meets them alike.
const TRIAL_ROUNDS: u32 = 8;
/// Epochs between trials, at first and at the most.
const SPACING_MIN: u32 = 64;
const SPACING_MAX: u32 = 4096;
/// A wait for more must save one part in this many: it costs latency.
const WORTH: u64 = 20;

/// The choice of a [`Way`], renewed by trials.
#[derive(Debug)]
pub(crate) struct Pace {
    way: Way,
    best: Way,
    /// Completions of this epoch, and those of them that came in sweeps of several.
    news: u32,
    in_several: u32,
    /// CPU time at the beginning of this epoch; none before the first.
    began: Option<Duration>,
    /// Epochs until the next trial, or left of the present one.
    left: u32,
    spacing: u32,
    trial: Option<Trial>,
}

/// What each way has cost in a trial.
#[derive(Debug, Default)]
struct Trial {
    cpu_ns: [u64; 3],
    news: [u64; 3],
}

impl Trial {
    /// The way that costs the least, if it is worth its wait.
    fn best(&self) -> Way {
        let cost = |way: Way| self.cpu_ns[way as usize] * 1024 / self.news[way as usize].max(1);
        let [first, past, backlog] = WAYS.map(cost);
        let (cheapest, least) =
            if past <= backlog { (Way::PastSends, past) } else { (Way::Backlog, backlog) };
        if least + first / WORTH < first { cheapest } else { Way::First }
    }
}

impl Pace {
    pub(crate) fn new() -> Pace {
        Pace {
            way: Way::First,
            best: Way::First,
            news: 0,
            in_several: 0,
            began: None,
            left: SPACING_MIN,
            spacing: SPACING_MIN,
            trial: None,
        }
    }

    /// One that waits in this way until its first trial.
    #[cfg(test)]
    pub(crate) fn always(way: Way) -> Pace {
        Pace { way, ..Pace::new() }
    }

    /// Completions to wait for, given the sends of this submission and what the sweep before
    /// brought beyond its own.
    #[inline]
    pub(crate) fn completions(&self, sends: u32, news: u32) -> u32 {
        match self.way {
            Way::Backlog if news >= FULL => sends + news,
            Way::Backlog | Way::PastSends if news >= SEVERAL => sends + 1,
            _ => 1,
        }
    }

    /// Takes note of what a wait brought beyond the sends.
    #[inline]
    pub(crate) fn brought(&mut self, news: u32, cpu_time: impl FnOnce() -> Duration) {
        self.news += news;
        if news >= SEVERAL {
            self.in_several += news;
        }
        if self.news >= EPOCH_NEWS {
            self.end_epoch(cpu_time());
        }
    }

    #[cold]
    fn end_epoch(&mut self, cpu: Duration) {
        let news = std::mem::take(&mut self.news);
        let in_several = std::mem::take(&mut self.in_several);
        let began = self.began.replace(cpu).unwrap_or(cpu);
        if in_several < news / 2 {
            // Nothing to share: the ways are one and the same.
            *self = Pace { began: self.began, ..Pace::new() };
            return;
        }
        if let Some(trial) = &mut self.trial {
            trial.cpu_ns[self.way as usize] += cpu.saturating_sub(began).as_nanos() as u64;
            trial.news[self.way as usize] += u64::from(news);
        }
        self.left -= 1;
        match &self.trial {
            None if self.left == 0 => {
                self.trial = Some(Trial::default());
                self.left = TRIAL_ROUNDS * WAYS.len() as u32;
                self.way = Way::First;
            }
            Some(trial) if self.left == 0 => {
                let best = trial.best();
                let same = std::mem::replace(&mut self.best, best) == best;
                self.spacing = if same { (self.spacing * 2).min(SPACING_MAX) } else { SPACING_MIN };
                self.left = self.spacing;
                self.way = best;
                self.trial = None;
            }
            Some(_) => self.way = WAYS[(self.way as usize + 1) % WAYS.len()],
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs epochs of sweeps of `news` completions that cost what `cost` says of each way, in
    /// nanoseconds a completion; how many completions were waited for by each way.
    fn run(pace: &mut Pace, news: u32, epochs: u32, cost: impl Fn(Way) -> u64) -> [u32; 3] {
        let mut cpu = pace.began.unwrap_or_default();
        let mut counts = [0; 3];
        for _ in 0..epochs * EPOCH_NEWS.div_ceil(news) {
            counts[pace.way as usize] += 1;
            cpu += Duration::from_nanos(cost(pace.way) * u64::from(news));
            pace.brought(news, || cpu);
        }
        counts
    }

    #[test]
    fn the_cheapest_way_is_found_and_trials_become_rare() {
        for cheapest in WAYS {
            let mut pace = Pace::new();
            let cost = |way| if way == cheapest { 1000 } else { 1200 };
            run(&mut pace, 32, 200, cost);
            assert_eq!(pace.best, cheapest);
            let counts = run(&mut pace, 32, 20_000, cost);
            let others: u32 = counts.iter().sum::<u32>() - counts[cheapest as usize];
            assert!(others < counts[cheapest as usize] / 50, "{cheapest:?}: {counts:?}");
        }
    }

    #[test]
    fn a_wait_that_saves_next_to_nothing_is_not_taken() {
        let mut pace = Pace::new();
        run(&mut pace, 32, 500, |way| if way == Way::First { 1000 } else { 990 });
        assert_eq!(pace.best, Way::First);
    }

    #[test]
    fn another_load_is_noticed() {
        let mut pace = Pace::new();
        run(&mut pace, 32, 300, |way| if way == Way::Backlog { 700 } else { 1000 });
        assert_eq!(pace.best, Way::Backlog);
        run(&mut pace, 32, 2 * SPACING_MAX, |way| if way == Way::Backlog { 9000 } else { 8000 });
        assert_eq!(pace.best, Way::First);
    }

    #[test]
    fn single_completions_are_never_kept_waiting() {
        let mut pace = Pace::new();
        let counts = run(&mut pace, 1, 500, |way| if way == Way::First { 1000 } else { 1 });
        assert_eq!(counts[1..], [0, 0]);
        assert_eq!(pace.completions(3, 1), 1);
    }

    #[test]
    fn a_wait_is_for_more_only_while_several_come() {
        let mut pace = Pace::new();
        pace.way = Way::Backlog;
        assert_eq!(
            [0, 3, 4, 15, 16, 40].map(|news| pace.completions(5, news)),
            [1, 1, 6, 6, 21, 45]
        );
        pace.way = Way::PastSends;
        assert_eq!([3, 4, 40].map(|news| pace.completions(5, news)), [1, 6, 6]);
        pace.way = Way::First;
        assert_eq!([0, 40].map(|news| pace.completions(5, news)), [1, 1]);
    }
}
