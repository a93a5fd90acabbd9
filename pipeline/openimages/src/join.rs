//! Brings together what all rows say about one image.
//!
//! Labels   those that people confirmed, in the order of the rows; then those that a machine is sure enough of, the
//!          surest first, unless people spoke about them. What people denied once is never a label.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use dih_taxonomy::Class;

use crate::{
    Image, OpenImage,
    account::{At, Books},
    label::Claim,
    spill::Piece,
};

/// Tags of spilled rows, in the order in which the rows of an image are handed out.
pub(crate) const IMAGE: u8 = 0;
pub(crate) const LABEL: u8 = 1;
pub(crate) const PHOTO: u8 = 2;

/// One image with all that is said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub image: Image,
    pub labels: Vec<Named>,
    /// Classes that people looked for and did not see.
    pub absent: Vec<Class>,
    /// None where the folder has none.
    pub photo: Option<Photo>,
}

/// A label of an image, and how sure somebody is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Named {
    pub class: Class,
    /// 1 for a label that people confirmed.
    pub confidence: f32,
    pub by_people: bool,
}

/// A photo below the folder of photos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo(pub PathBuf);

pub(crate) fn place(at: At) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&at.file.to_le_bytes());
    bytes[2..].copy_from_slice(&at.line.to_le_bytes());
    bytes
}

fn placed(bytes: &[u8]) -> io::Result<(At, &[u8])> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "a temporary file holds something else");
    let (place, rest) = bytes.split_first_chunk::<10>().ok_or_else(broken)?;
    let [a, b, l @ ..] = *place;
    Ok((At { file: u16::from_le_bytes([a, b]), line: u64::from_le_bytes(l) }, rest))
}

/// Joins the rows of one image; None where no row describes it.
pub(crate) fn join(
    id: OpenImage,
    pieces: &[Piece<'_>],
    machine_min: f32,
    books: &mut Books<'_>,
) -> io::Result<Option<Entry>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "a temporary file holds something else");
    let mut image: Option<(At, Image)> = None;
    let mut claims = Vec::new();
    let mut photos: Vec<&Path> = Vec::new();
    for piece in pieces {
        match piece.tag {
            IMAGE => {
                let (at, bytes) = placed(piece.bytes)?;
                let row = Image::decode(id, bytes).ok_or_else(broken)?;
                match &mut image {
                    None => image = Some((at, row)),
                    Some((first, image)) => again(*first, image, at, row, books)?,
                }
            }
            LABEL => {
                let (at, bytes) = placed(piece.bytes)?;
                claims.push((at, Claim::decode(bytes).ok_or_else(broken)?));
            }
            _ => photos.push(Path::new(std::str::from_utf8(piece.bytes).map_err(|_| broken())?)),
        }
    }
    photos.sort();
    let Some((_, image)) = image else {
        books.totals.photos_unknown += photos.len() as u64;
        for (at, _) in claims {
            books.refuse_taken(at, format!("is about the image `{id}`, which no image row describes"))?;
        }
        return Ok(None);
    };
    let totals = &mut books.totals;
    totals.images += 1;
    totals.photos_again += photos.len().saturating_sub(1) as u64;
    let (labels, absent) = settle(&claims, machine_min, books);
    let photo = photos.first().map(|path| Photo(path.to_path_buf()));
    match (&photo, labels.is_empty()) {
        (None, _) => books.totals.not_here += 1,
        (Some(_), empty) => {
            books.totals.here += 1;
            books.totals.without_label += u64::from(empty);
        }
    }
    Ok(Some(Entry { image, labels, absent, photo }))
}

/// Another row about the image: it may add the rotation, and must say the same otherwise.
fn again(first: At, image: &mut Image, at: At, row: Image, books: &mut Books<'_>) -> io::Result<()> {
    match image.contradicts(&row) {
        Some(column) => {
            let problem = format!("says another {column} of `{}` than {}", row.id, books.name(first));
            books.refuse_taken(at, problem)
        }
        None => {
            image.turn = image.turn.or(row.turn);
            books.totals.images_again += 1;
            Ok(())
        }
    }
}

#[derive(Default)]
struct Said {
    yes: bool,
    no: bool,
    taken: bool,
    counted_no: bool,
}

fn settle(claims: &[(At, Claim)], machine_min: f32, books: &mut Books<'_>) -> (Vec<Named>, Vec<Class>) {
    let mut said: HashMap<Class, Said> = HashMap::new();
    for (_, claim) in claims.iter().filter(|(_, claim)| claim.by_people) {
        let said = said.entry(claim.class).or_default();
        said.yes |= claim.confidence > 0.0;
        said.no |= claim.confidence == 0.0;
    }
    let (mut labels, mut absent) = (Vec::new(), Vec::new());
    let totals = &mut books.totals;
    // The surest row of a machine about a class counts, the others say it again.
    let mut ordered: Vec<Claim> = claims.iter().map(|(_, claim)| *claim).collect();
    ordered.sort_by(|a, b| {
        (b.by_people, b.confidence).partial_cmp(&(a.by_people, a.confidence)).unwrap_or(std::cmp::Ordering::Equal)
    });
    for claim in ordered {
        let Claim { class, confidence, by_people } = claim;
        let said = said.entry(class).or_default();
        let denies = by_people && confidence == 0.0;
        let count = match () {
            () if denies && !said.counted_no => {
                said.counted_no = true;
                absent.push(class);
                &mut totals.labels_absent
            }
            () if denies => &mut totals.labels_again,
            () if said.no => &mut totals.labels_denied,
            () if said.taken => &mut totals.labels_again,
            () if !by_people && said.yes => &mut totals.labels_again,
            () if !by_people && confidence < machine_min => &mut totals.labels_unsure,
            () => {
                said.taken = true;
                labels.push(Named { class, confidence, by_people });
                &mut totals.labels_taken
            }
        };
        *count += 1;
    }
    (labels, absent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Totals;

    const AT: At = At { file: 0, line: 1 };

    fn claim(class: Class, confidence: f32, by_people: bool) -> (At, Claim) {
        (AT, Claim { class, confidence, by_people })
    }

    #[track_caller]
    fn check(claims: &[(At, Claim)], labels: &[Class], absent: &[Class]) -> Totals {
        let mut refused = |_: &crate::Refusal| Ok(());
        let mut books = Books::new(&mut refused);
        let found = settle(claims, 0.9, &mut books);
        assert_eq!(found.0.iter().map(|named| named.class).collect::<Vec<_>>(), labels);
        assert_eq!(found.1, absent);
        let t = &books.totals;
        let counted = t.labels_taken + t.labels_absent + t.labels_unsure + t.labels_again + t.labels_denied;
        assert_eq!(counted, claims.len() as u64, "every row is counted once: {t:?}");
        books.totals
    }

    #[test]
    fn people_come_first_then_machines_that_are_sure() {
        check(
            &[claim(1, 0.9, false), claim(2, 1.0, false), claim(3, 1.0, true), claim(4, 0.8, false)],
            &[3, 2, 1],
            &[],
        );
    }

    #[test]
    fn what_people_deny_is_no_label_whoever_says_so() {
        let totals = check(&[claim(1, 1.0, false), claim(1, 0.0, true)], &[], &[1]);
        assert_eq!((totals.labels_denied, totals.labels_absent), (1, 1));
        check(&[claim(1, 1.0, true), claim(1, 0.0, true), claim(1, 0.0, true)], &[], &[1]);
    }

    #[test]
    fn a_label_is_taken_once() {
        let totals = check(&[claim(1, 1.0, true), claim(1, 1.0, true), claim(1, 0.3, false)], &[1], &[]);
        assert_eq!((totals.labels_taken, totals.labels_again), (1, 2));
        check(&[claim(1, 0.5, false), claim(1, 1.0, false)], &[1], &[]);
    }
}
