//! All stages from dedupe on, and the messages between them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use dih_core::{
    Class, Epoch, ImageId, Notice, Outcome, StageError, UploadSeq,
    event::{Image, ImageStored},
    ports::Index,
    record::{Record, State},
    verdict::{Answer, Status},
};
use dih_stores::{contract::Stepped, index::MemoryIndex};
use rand::{
    RngExt, SeedableRng,
    distr::{Distribution, weighted::WeightedIndex},
};
use rand_chacha::ChaCha8Rng;

use crate::{
    crowd::{Crowd, NUMBERS, space},
    stages::{image_of, kind, summary},
};

/// Tries of a message, and messages of a stream, beyond which something goes round in circles.
const TRIES: u32 = 200;
const MESSAGES: u64 = 20_000;

/// What the uploads of a content were answered, and of which contents they are repeats. A content goes by its first upload.
pub(crate) type Fates = BTreeMap<UploadSeq, Vec<(Status, Option<UploadSeq>)>>;

/// A message in work, and how often it is its turn: some stand still between two calls while others run through.
struct Work {
    message: Message,
    stepped: Stepped<Result<Outcome, StageError>>,
    pace: f64,
}

/// A fact on its way to the stage that takes it.
#[derive(Clone, Debug)]
struct Message {
    sequence: u64,
    fact: Notice,
    tries: u32,
}

/// What decides a course. Some are crowded, some hardly; some are deadly.
struct Lots {
    dice: ChaCha8Rng,
    /// Messages in work at once, at most; and of so many uploads any may be taken next.
    at_once: usize,
    window: usize,
    /// Chances that a message is taken into work, that one in work dies at a step, and that an old one comes again.
    begins: f64,
    dies: f64,
    again: f64,
}

impl Lots {
    fn new(seed: u64) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        // In half of the courses nobody dies, in half of them nothing comes again: that puts right what was missed before.
        let mut chance = |most: f64| if dice.random_bool(0.5) { dice.random_range(0.0..most) } else { 0.0 };
        let (dies, again) = (chance(0.02), chance(0.1));
        let (at_once, window) = (dice.random_range(2..13), dice.random_range(1..13));
        Self { begins: dice.random_range(0.02..0.5), at_once, window, dies, again, dice }
    }

    fn pace(&mut self) -> f64 {
        10_f64.powf(self.dice.random_range(-2.0..0.0))
    }

    /// Whose turn it is.
    fn turn(&mut self, in_work: &[Work]) -> Result<usize> {
        Ok(WeightedIndex::new(in_work.iter().map(|work| work.pace))?.sample(&mut self.dice))
    }

    /// How much of an outcome is published: all, or a little before the process dies.
    fn says(&mut self) -> usize {
        if self.dice.random_bool(self.dies * 5.0) { self.dice.random_range(0..3) } else { usize::MAX }
    }
}

pub(crate) struct Stream<'a> {
    crowd: &'a Crowd,
    index: Arc<dyn Index>,
    waiting: Vec<Message>,
    published: Vec<Message>,
    in_work: Vec<Work>,
    /// Names of messages, of which the broker takes the first.
    names: HashSet<String>,
    sequence: u64,
    answers: BTreeMap<(UploadSeq, Epoch), Answer>,
    told: String,
}

impl<'a> Stream<'a> {
    fn new(crowd: &'a Crowd) -> Self {
        Self {
            crowd,
            index: Arc::new(MemoryIndex::with_spaces(&[(space(), NUMBERS)])),
            waiting: Vec::new(),
            published: Vec::new(),
            in_work: Vec::new(),
            names: HashSet::new(),
            sequence: 0,
            answers: BTreeMap::new(),
            told: String::new(),
        }
    }

    /// One upload after the other, and one message after the other.
    pub(crate) async fn calm(crowd: &'a Crowd) -> Result<Self> {
        let mut stream = Self::new(crowd);
        for image in &crowd.uploads {
            stream.arrive(image.clone());
            while !stream.waiting.is_empty() {
                stream.begin(0, 1.0);
                while !stream.step(0, usize::MAX).await? {}
            }
        }
        Ok(stream)
    }

    /// Whoever goes on next, and dies, is drawn by lot.
    pub(crate) async fn drawn(crowd: &'a Crowd, seed: u64) -> Result<Self> {
        let (mut stream, mut lots) = (Self::new(crowd), Lots::new(seed));
        let mut uploads = crowd.uploads.clone();
        loop {
            match stream.in_work.len() {
                0 if stream.waiting.is_empty() && uploads.is_empty() => return Ok(stream),
                0 => stream.take_up(&mut uploads, &mut lots),
                n if n < lots.at_once && lots.dice.random_bool(lots.begins) => stream.take_up(&mut uploads, &mut lots),
                _ => {
                    let one = lots.turn(&stream.in_work)?;
                    match lots.dice.random_bool(lots.dies) {
                        true => stream.die(one),
                        false => drop(stream.step(one, lots.says()).await?),
                    }
                }
            }
        }
    }

    /// Takes a message into work, perhaps after another upload has arrived or an old message has come again.
    fn take_up(&mut self, uploads: &mut Vec<Image>, lots: &mut Lots) {
        if !uploads.is_empty() && (self.waiting.is_empty() || lots.dice.random_bool(0.3)) {
            let next = lots.dice.random_range(0..uploads.len().min(lots.window));
            self.arrive(uploads.remove(next));
        }
        if !uploads.is_empty() && lots.dice.random_bool(lots.again) {
            let old = lots.dice.random_range(0..self.published.len());
            self.waiting.push(self.published[old].clone()); // perhaps the first one is in work yet
        }
        if !self.waiting.is_empty() {
            self.begin(lots.dice.random_range(0..self.waiting.len()), lots.pace());
        }
    }

    fn arrive(&mut self, image: Image) {
        self.publish(Notice::Stored(ImageStored { image }));
    }

    fn publish(&mut self, fact: Notice) {
        self.sequence += 1;
        let message = Message { sequence: self.sequence, fact, tries: 0 };
        self.waiting.push(message.clone());
        self.published.push(message);
    }

    /// Takes the message at this place into work.
    fn begin(&mut self, at: usize, pace: f64) {
        let mut message = self.waiting.swap_remove(at);
        message.tries += 1;
        self.tell(&format!("begins {}", summary(&message.fact)));
        let (stages, fact) = (self.crowd.stages.clone(), message.fact.clone());
        let stepped = Stepped::new(self.index.clone(), |index| stages.process(index, fact));
        self.in_work.push(Work { message, stepped, pace });
    }

    /// It comes again.
    fn die(&mut self, one: usize) {
        let Work { message, .. } = self.in_work.swap_remove(one);
        self.tell(&format!("dies   {}", summary(&message.fact)));
        self.waiting.push(message);
    }

    /// Whether it is through. `says`: of how many notices; if there are more, it dies.
    async fn step(&mut self, one: usize, says: usize) -> Result<bool> {
        let Some(done) = self.in_work[one].stepped.step().await else { return Ok(false) };
        let Work { message, .. } = self.in_work.swap_remove(one);
        ensure!(message.tries < TRIES && message.sequence < MESSAGES, "it goes round in circles\n{}", self.told);
        let notices = match done {
            Ok(outcome) => outcome.notices,
            Err(error) => {
                ensure!(error.class() == Class::Retry, "{error} by {}", summary(&message.fact));
                self.waiting.push(message);
                return Ok(true);
            }
        };
        let whole = notices.len() <= says;
        let said: Vec<_> = notices.iter().map(summary).collect();
        self.tell(&format!("ends   {} with {}", summary(&message.fact), said.join(", ")));
        for notice in notices.into_iter().take(says) {
            self.hear(notice, &summary(&message.fact));
        }
        if !whole {
            self.tell(&format!("dies   {} after {says} of it", summary(&message.fact)));
            self.waiting.push(message);
        }
        Ok(true)
    }

    /// As the broker does: of equal names it takes the first. `cause` goes by its content, as the runner has it.
    fn hear(&mut self, notice: Notice, cause: &str) {
        let Some(image) = image_of(&notice) else {
            if let Notice::Answer(answer) = notice {
                let place = (answer.upload, answer.epoch);
                let name = format!("answer {} {} {}", answer.upload, answer.epoch, answer.status);
                // Of verdicts the first counts, of revisions the last.
                let heard = answer.epoch == Epoch(0) && self.answers.contains_key(&place);
                if self.names.insert(name) && !heard {
                    self.answers.insert(place, *answer);
                }
            }
            return;
        };
        if self.names.insert(format!("{cause} {} {} {}", kind(&notice), image.upload, image.epoch)) {
            self.publish(notice);
        }
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.told, "{what}").expect("a string takes all");
    }

    /// Whatever happened, for people.
    pub(crate) fn told(&self) -> &str {
        &self.told
    }

    /// Fails where an answer is missing, or says what is not so. What nobody can have is left out: whether it is refused, or a
    /// repeat before that, is chance.
    pub(crate) async fn fates(&self) -> Result<Fates> {
        let (mut fates, mut firsts) = (Fates::new(), HashMap::new());
        for image in &self.crowd.uploads {
            let first = *firsts.entry(image.id).or_insert(image.upload);
            let record = self.index.get(image.id).await?.context("a record for each content")?;
            if self.crowd.is_hopeless(image) {
                continue;
            }
            let answer = self.answers.range((image.upload, Epoch(0))..=(image.upload, Epoch(u32::MAX))).next_back();
            let (_, answer) = answer.with_context(|| format!("no answer to {}\n{}", image.upload, self.told))?;
            if record.upload() == image.upload {
                let (said, is) = (said(answer), is(&record));
                let told =
                    || format!("{said:?} is said of {}, which is {:?}\n{}", image.upload, record.state, self.told);
                ensure!(Some(said) == is, "{}", told());
            }
            let of = answer.repeat.as_ref().and_then(|repeat| firsts.get(&repeat.of).copied());
            fates.entry(first).or_default().push((answer.status, of));
        }
        fates.values_mut().for_each(|fate| fate.sort());
        Ok(fates)
    }
}

/// What must be said of a photo: its epoch, and whether it is published or what else, and whom it repeats.
type Said = (Epoch, Status, Option<ImageId>);

fn said(answer: &Answer) -> Said {
    (answer.epoch, answer.status, answer.repeat.as_ref().map(|repeat| repeat.of))
}

/// None where it is under way, or refused.
fn is(record: &Record) -> Option<Said> {
    let status = match record.state {
        State::Curated => Status::Curated,
        State::Held => Status::Held,
        State::Repeat => Status::Duplicate,
        _ => return None,
    };
    Some((record.epoch, status, record.repeat.as_ref().map(|repeat| repeat.of)))
}
