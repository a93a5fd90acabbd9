//! Linear models on feature vectors: the second look at labels, classifier heads, and the honest numbers about them.
//!
//! Takes    vectors (through [`Vectors`], so that callers may map a file) and labels as small integers.
//! Gives    [`second_look`]: how probably each label is wrong, judged by models that never saw it;
//!          [`train_head`]: a calibrated softmax classifier; [`Report`]: accuracy, precision, recall, confusion;
//!          [`most_different`]: the most different of many vectors.
//! Keeps    nothing. Equal input gives equal output; no clock, no file, no thread.
//! Weak at  labels that are not linear in the vectors, and mistakes that most members of a label share.

mod algebra;
mod discriminant;
mod error;
mod head;
mod members;
mod metrics;
mod noise;
mod second_look;
mod shortlist;
mod spread;
mod testimony;
mod witness;

pub use error::LearningError;
pub use head::{Epoch, Head, HeadPolicy, Split, Trained, train_head};
pub use members::{LabelTable, Neighbours, Slab, Vectors};
pub use metrics::{ClassScore, Report};
pub use noise::{Evidence, Rate};
pub use second_look::{HOLD_MIN, Judgement, Policy, Reason, SecondLook, second_look};
pub use spread::{Pick, Read, most_different};
pub use testimony::{Testimonies, Vote};
