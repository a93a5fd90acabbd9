//! The faults, and their order: drawn from a seed, every kind at least once. Pure.

use std::fmt;

use rand::{RngExt, SeedableRng, seq::IndexedRandom, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Broker,
    Pictures,
    Index,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Broker => "broker",
            Self::Pictures => "pictures",
            Self::Index => "index",
        })
    }
}

/// A replica by its place in the list of all.
pub(crate) type Place = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillStage(Place),
    /// Dies by itself, at a line between write, publish and acknowledgement.
    Abort(Place, &'static str),
    KillBroker,
    KillIndex,
    /// SIGSTOP for so many milliseconds, then SIGCONT.
    Stop(Server, u64),
    /// Longer than its lease.
    StopStage(Place),
    /// Connections stay, nothing passes.
    Freeze(Server, u64),
    Refuse(Server, u64),
    Cut(Server),
    Slow(Server, u64),
    /// The stage waits before each commit.
    SlowStage(Place),
    FullPictures,
    FullStream(&'static str),
    /// By so many hours, while it runs.
    Clock(Place, i64),
    DuplicateFacts,
    DuplicateUploads,
    /// Taken by somebody who hands them back for later, or never.
    Reorder(&'static str),
    /// Refused when it starts: the secret of the pictures, or the key of the index, is wrong.
    BadStart(Place, &'static str),
    /// Starts well, and is denied the pictures later.
    Denied(Place),
}

pub(crate) const LINES: [&str; 4] = ["before_commit", "before_publish", "before_ack", "after_ack"];
/// Two of each of these come first among the replicas.
const BUSY: usize = 12;
const CONSUMERS: [&str; 6] = ["ingest", "dedupe", "verify", "embed", "cluster", "organize"];
const SERVERS: [Server; 3] = [Server::Broker, Server::Pictures, Server::Index];
/// Kinds of faults that are drawn alike.
const KINDS: usize = 19;
/// Every form of every kind once.
pub(crate) const FORMS: usize = 34;

impl Fault {
    /// The `form`th of [`FORMS`], with the rest drawn.
    fn form(form: usize, random: &mut ChaCha8Rng) -> Self {
        let place = random.random_range(0..BUSY);
        let time = random.random_range(1_500..5_000);
        let server = SERVERS[form % 3];
        match form {
            0..3 => Self::Stop(server, time),
            3..6 => Self::Freeze(server, time),
            6..9 => Self::Refuse(server, time),
            9..12 => Self::Cut(server),
            12..15 => Self::Slow(server, random.random_range(20..150)),
            15 => Self::KillStage(place),
            16..20 => Self::Abort(place, LINES[form - 16]),
            20 => Self::KillBroker,
            21 => Self::KillIndex,
            22 => Self::StopStage(place),
            23 => Self::SlowStage(place),
            24 => Self::FullPictures,
            25 => Self::FullStream("UPLOADS"),
            26 => Self::FullStream("IMAGES"),
            27 => Self::Clock(place, -random.random_range(1..48)),
            28 => Self::Clock(place, random.random_range(1..48)),
            29 => Self::DuplicateFacts,
            30 => Self::DuplicateUploads,
            31 => Self::Reorder(CONSUMERS.choose(random).expect("there are consumers")),
            32 => Self::BadStart(place, ["wrong-secret.toml", "wrong-key.toml"][random.random_range(0..2)]),
            // Ingest and organize write pictures; the others may have all that they need in memory.
            _ => Self::Denied([0, 1, 10, 11][random.random_range(0..4)]),
        }
    }

    /// Forms of the `kind`th of [`KINDS`].
    fn forms(kind: usize) -> std::ops::Range<usize> {
        const FROM: [usize; KINDS + 1] =
            [0, 3, 6, 9, 12, 15, 16, 20, 21, 22, 23, 24, 25, 27, 29, 30, 31, 32, 33, FORMS];
        FROM[kind]..FROM[kind + 1]
    }

    /// Which number of the list of requirements it is an instance of, and its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillStage(_) => "kill -9 of a stage",
            Self::Abort(..) => "death at a line",
            Self::KillBroker => "kill -9 of the broker",
            Self::KillIndex => "kill -9 of the index",
            Self::Stop(..) => "SIGSTOP of a server",
            Self::StopStage(_) => "SIGSTOP of a stage",
            Self::Freeze(..) => "nothing passes",
            Self::Refuse(..) => "connections refused",
            Self::Cut(_) => "connections cut",
            Self::Slow(..) => "slow",
            Self::SlowStage(_) => "slow commits",
            Self::FullPictures => "full disk",
            Self::FullStream(_) => "full stream",
            Self::Clock(..) => "clock jumps",
            Self::DuplicateFacts => "facts come twice",
            Self::DuplicateUploads => "uploads sent twice",
            Self::Reorder(_) => "another order",
            Self::BadStart(..) => "bad deployment",
            Self::Denied(_) => "denied at work",
        }
    }
}

/// So many faults, or none; more where every form would not strike once. The last one is a single kill.
pub(crate) fn draw(count: usize, seed: u64) -> Vec<Fault> {
    if count == 0 {
        return Vec::new();
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut forms: Vec<usize> = (0..FORMS).collect();
    while forms.len() + 1 < count {
        let kind = Fault::forms(random.random_range(0..KINDS));
        forms.push(random.random_range(kind));
    }
    forms.shuffle(&mut random);
    let mut faults: Vec<Fault> = forms.into_iter().map(|form| Fault::form(form, &mut random)).collect();
    faults.push(Fault::form(15, &mut random));
    faults
}

#[test]
fn the_same_seed_draws_the_same_faults_and_all_of_them() {
    for (count, seed) in [(40, 1), (40, 2), (200, 3)] {
        let faults = draw(count, seed);
        assert_eq!(faults.len(), count);
        assert_eq!(faults, draw(count, seed));
        let names: std::collections::BTreeSet<_> = faults.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), KINDS, "{names:?}");
    }
    assert_ne!(draw(40, 1), draw(40, 2));
    assert_eq!(draw(0, 1), []);
}
