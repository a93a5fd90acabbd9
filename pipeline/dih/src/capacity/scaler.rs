//! A day with bursts, second by second, under the rules by which `k8s/` scales: KEDA asks for the lag, a Horizontal Pod
//! Autoscaler follows it. Pure.
//!
//! Takes    a load, costs, and the least and most replicas of each stage. Gives replicas and lag over time.
//! Source   Kubernetes, "Horizontal Pod Autoscaling": algorithm, tolerance, stabilization windows, policies. The numbers are
//!          those of k8s/base/stage/scaling.yaml; `make k8s-check` holds the manifests.

use std::collections::VecDeque;

use super::{Load, Need, costs::CORES_PER_REPLICA};

/// Seconds of the day that is looked at: two hours before a burst, one hour of it, three after.
pub const SPAN_S: usize = 6 * 3600;
const BURST: std::ops::Range<usize> = 2 * 3600..3 * 3600;

/// How often the autoscaler looks.
const LOOK_S: usize = 15;
/// Within this share of the aim nothing changes.
const TOLERANCE: f64 = 0.1;
const UP_WINDOW_S: usize = 30;
/// Of the policies by which replicas come: two, or as many as there are.
const UP_PERIOD_S: usize = 60;

/// How replicas go. A queue that is short says nothing of how many keep it short: who takes many away takes too many.
#[derive(Clone, Copy, Debug)]
struct Going {
    /// Nothing goes that was wanted within this time.
    window_s: usize,
    /// Share that stays of those of a period ago.
    keep: f64,
    period_s: usize,
}

const GOING: Going = Going { window_s: 600, keep: 0.95, period_s: 300 };
/// From a wish to a replica that works: scheduling, the image, the model.
const START_S: usize = 30;
/// Lag that one replica may have before it: some twenty seconds of its work.
const WORK_AHEAD_S: f64 = 20.0;

/// What happened to one stage.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Working replicas, each second.
    pub replicas: Vec<u32>,
    /// Photos that wait or are in work, each second.
    pub lag: Vec<f64>,
    /// Replicas that were taken away and wanted again within ten minutes.
    pub regretted: u32,
}

impl Trace {
    /// Longest wait of a photo, in seconds, by the lag and the speed of that moment.
    pub fn longest_wait_s(&self, per_replica: f64) -> f64 {
        let waits = self.lag.iter().zip(&self.replicas).map(|(lag, n)| lag / (f64::from((*n).max(1)) * per_replica));
        waits.fold(0.0, f64::max)
    }

    /// Seconds from the end of the burst until no more waits than a replica may have before it.
    pub fn caught_up_after_s(&self, per_replica: f64) -> Option<usize> {
        let calm = |at: &usize| self.lag[*at] <= per_replica * WORK_AHEAD_S;
        (BURST.end..self.lag.len()).find(calm).map(|at| at - BURST.end)
    }
}

/// Photos a second that come at a second of the day: the mean, and in the burst as many as in the busiest hour.
pub fn arriving(load: &Load, second: usize) -> f64 {
    if BURST.contains(&second) { load.busiest() } else { load.mean() }
}

/// Photos a second that one replica does.
pub fn per_replica(need: &Need) -> f64 {
    CORES_PER_REPLICA * 1e3 / need.cpu_ms_per_photo.max(f64::MIN_POSITIVE)
}

/// One stage through the day; `arriving` is what comes in each second. Gives also what it hands on.
pub fn run(need: &Need, arriving: &[f64]) -> (Trace, Vec<f64>) {
    run_by(GOING, need, arriving)
}

fn run_by(going: Going, need: &Need, arriving: &[f64]) -> (Trace, Vec<f64>) {
    let speed = per_replica(need);
    let mut scaler = Scaler::new(going, need, speed * WORK_AHEAD_S);
    let (mut lag, mut handed_on) = (0.0, Vec::with_capacity(arriving.len()));
    let mut trace = Trace { replicas: Vec::new(), lag: Vec::new(), regretted: 0 };
    for (second, coming) in arriving.iter().enumerate() {
        let working = scaler.working(second);
        let waiting = lag + coming;
        let done = waiting.min(f64::from(working) * speed);
        lag = waiting - done;
        handed_on.push(done);
        if second % LOOK_S == 0 {
            scaler.look(second, lag);
        }
        trace.replicas.push(working);
        trace.lag.push(lag);
    }
    trace.regretted = scaler.regretted;
    (trace, handed_on)
}

/// The autoscaler of one stage.
struct Scaler {
    going: Going,
    least: u32,
    most: u32,
    /// Lag a replica.
    aim: f64,
    wanted: u32,
    /// Replicas that are starting: when they work, and how many there are then.
    starting: VecDeque<(usize, u32)>,
    working: u32,
    /// What was recommended, and when.
    recommended: VecDeque<(usize, u32)>,
    /// What was wanted, and since when; for the policies.
    history: Vec<(usize, u32)>,
    lowered_at: Option<usize>,
    regretted: u32,
}

/// Ten minutes.
const REGRET_S: usize = 600;

impl Scaler {
    fn new(going: Going, need: &Need, aim: f64) -> Self {
        let (least, most) = (need.replicas_min, need.replicas_max.max(need.replicas_min));
        Self {
            going,
            least,
            most,
            aim,
            wanted: least,
            starting: VecDeque::new(),
            working: least,
            recommended: VecDeque::new(),
            history: vec![(0, least)],
            lowered_at: None,
            regretted: 0,
        }
    }

    fn working(&mut self, second: usize) -> u32 {
        while let Some((_, replicas)) = self.starting.pop_front_if(|(at, _)| *at <= second) {
            self.working = replicas;
        }
        self.working
    }

    fn look(&mut self, second: usize, lag: f64) {
        let ratio = lag / (self.aim * f64::from(self.wanted));
        let desired = match (ratio - 1.0).abs() <= TOLERANCE {
            true => self.wanted,
            false => (lag / self.aim).ceil() as u32,
        };
        self.recommended.push_back((second, desired.clamp(self.least, self.most)));
        while self.recommended.front().is_some_and(|(at, _)| at + self.going.window_s < second) {
            self.recommended.pop_front();
        }
        let lately = |window: usize| {
            self.recommended.iter().filter(move |(at, _)| at + window >= second).map(|(_, replicas)| *replicas)
        };
        // Up by the least that was recommended lately, down by the most.
        let up = lately(UP_WINDOW_S).min().unwrap_or(self.wanted);
        let down = lately(self.going.window_s).max().unwrap_or(self.wanted);
        if up > self.wanted {
            let before = self.ago(second, UP_PERIOD_S);
            self.want(second, up.min((before + 2).max(before * 2)));
        } else if down < self.wanted {
            let kept = (f64::from(self.ago(second, self.going.period_s)) * self.going.keep) as u32;
            self.want(second, down.max(kept).min(self.wanted));
        }
    }

    /// What was wanted so many seconds ago.
    fn ago(&self, second: usize, seconds: usize) -> u32 {
        let then = self.history.iter().rev().find(|(at, _)| at + seconds <= second);
        then.or_else(|| self.history.first()).map_or(self.wanted, |(_, replicas)| *replicas)
    }

    fn want(&mut self, second: usize, replicas: u32) {
        if replicas == self.wanted {
            return;
        }
        if replicas > self.wanted {
            self.starting.push_back((second + START_S, replicas));
            if self.lowered_at.is_some_and(|at| second < at + REGRET_S) {
                self.regretted += replicas - self.wanted;
            }
        } else {
            self.lowered_at = Some(second);
            self.starting.clear();
            self.working = self.working.min(replicas);
        }
        self.wanted = replicas;
        self.history.push((second, replicas));
    }
}

#[cfg(test)]
mod tests {
    use dih_core::StageName;

    use super::*;
    use crate::capacity::{Load, bill, costs::Cost};

    fn load(photos_per_day: f64, peak: f64) -> Load {
        Load { photos_per_day, peak, photo_bytes: 200_000.0, curated: 0.7, days: 30.0 }
    }

    fn verify(load: &Load) -> Need {
        let bill = bill(load, &Cost::default(), None);
        bill.stages.into_iter().find(|need| need.stage == StageName::Verify).expect("a stage")
    }

    fn day(load: &Load, need: &Need) -> Trace {
        day_by(GOING, load, need)
    }

    fn day_by(going: Going, load: &Load, need: &Need) -> Trace {
        let arriving: Vec<f64> = (0..SPAN_S).map(|second| arriving(load, second)).collect();
        let (trace, handed_on) = run_by(going, need, &arriving);
        let left = trace.lag.last().copied().unwrap_or(0.0);
        assert!((arriving.iter().sum::<f64>() - handed_on.iter().sum::<f64>() - left).abs() < 1e-3, "none is lost");
        trace
    }

    #[test]
    fn what_the_bill_says_is_enough_for_a_burst_and_does_not_swing() {
        for photos in [1e5, 1e6, 1e7, 5e7] {
            for peak in [1.0, 3.0, 10.0] {
                let load = load(photos, peak);
                let need = verify(&load);
                let trace = day(&load, &need);
                let speed = per_replica(&need);
                let patience = if peak <= 3.0 { 180.0 } else { 450.0 };
                assert!(trace.longest_wait_s(speed) < patience, "{photos} x {peak}: {}", trace.longest_wait_s(speed));
                assert!(trace.regretted <= 6.max(need.replicas_max / 3), "{photos} x {peak}: {}", trace.regretted);
                assert!(trace.caught_up_after_s(speed).is_some_and(|s| s < 300), "{photos} x {peak}");
                assert!(trace.replicas.iter().all(|n| (need.replicas_min..=need.replicas_max).contains(n)));
            }
        }
    }

    #[test]
    fn who_takes_half_away_at_once_swings() {
        let load = load(2e7, 5.0);
        let hasty = Going { window_s: 300, keep: 0.5, period_s: 60 };
        let (hasty, ours) = (day_by(hasty, &load, &verify(&load)), day(&load, &verify(&load)));
        assert!(hasty.regretted > 5 * ours.regretted, "{} and {}", hasty.regretted, ours.regretted);
    }

    #[test]
    fn too_few_replicas_do_not_keep_up_and_it_is_seen() {
        let load = load(1e7, 3.0);
        let need = Need { replicas_max: 1, replicas_min: 1, ..verify(&load) };
        assert!(day(&load, &need).longest_wait_s(per_replica(&need)) > 1_000.0);
    }

    #[test]
    fn replicas_come_by_no_more_than_the_policies_allow_and_go_when_all_is_done() {
        let load = load(5e7, 10.0);
        let need = verify(&load);
        let trace = day(&load, &need);
        let doublings = (f64::from(need.replicas_max) / f64::from(need.replicas_min)).log2().ceil() as usize;
        let full = trace.replicas.iter().position(|n| *n == need.replicas_max).expect("all are wanted");
        assert!(full >= BURST.start + (doublings - 1) * UP_PERIOD_S, "{full}: {doublings} doublings");
        assert_eq!(trace.replicas.last(), Some(&need.replicas_min));
    }
}
