//! Rows about labels: what somebody says that an image shows, or does not; and rows about boxes.

use dih_taxonomy::{Class, Classes, rows::Row};

use crate::{OpenImage, image::short};

/// What one row says about one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) class: Class,
    /// 0 to 1; by people 1 (it is there) or 0 (it is not).
    pub(crate) confidence: f32,
    pub(crate) by_people: bool,
}

pub(crate) const CLAIM_BYTES: usize = 9;

impl Claim {
    pub(crate) fn encode(&self) -> [u8; CLAIM_BYTES] {
        let mut bytes = [0; CLAIM_BYTES];
        bytes[..4].copy_from_slice(&self.class.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.confidence.to_le_bytes());
        bytes[8] = self.by_people.into();
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; CLAIM_BYTES] = bytes.try_into().ok()?;
        let [a, b, c, d, e, f, g, h, people] = *bytes;
        let (class, confidence) = (u32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h]));
        Some(Self { class, confidence, by_people: people == 1 })
    }
}

/// Where the columns of a label file stand.
#[derive(Debug)]
pub(crate) struct Columns {
    image: usize,
    source: usize,
    label: usize,
    confidence: usize,
}

impl Columns {
    pub(crate) fn of(heading: &Row) -> Option<Self> {
        let place = |name: &str| heading.cells().position(|cell| cell == name);
        Some(Self {
            image: place("ImageID")?,
            source: place("Source")?,
            label: place("LabelName")?,
            confidence: place("Confidence")?,
        })
    }

    pub(crate) fn claim(&self, row: &Row, classes: &Classes) -> Result<(OpenImage, Claim), String> {
        let id = image_id(row.cell(self.image))?;
        let class = class(row.cell(self.label), classes)?;
        let by_people = match row.cell(self.source) {
            "" => return Err("has no Source".to_owned()),
            "machine" => false,
            _ => true,
        };
        let text = row.cell(self.confidence);
        let confidence: f32 = text.parse().map_err(|_| format!("Confidence `{}` is no number", short(text)))?;
        if !(0.0..=1.0).contains(&confidence) {
            return Err(format!("Confidence `{}` is not between 0 and 1", short(text)));
        }
        if by_people && confidence != 0.0 && confidence != 1.0 {
            return Err(format!("Confidence `{}` of a label that people verified is neither 0 nor 1", short(text)));
        }
        Ok((id, Claim { class, confidence, by_people }))
    }
}

/// Where the columns of a file of boxes stand; V3 has 8 or 13, later ones more.
#[derive(Debug)]
pub(crate) struct BoxColumns {
    image: usize,
    label: usize,
    edges: [usize; 4],
}

impl BoxColumns {
    pub(crate) fn of(heading: &Row) -> Option<Self> {
        let place = |name: &str| heading.cells().position(|cell| cell == name);
        let edges = [place("XMin")?, place("XMax")?, place("YMin")?, place("YMax")?];
        Some(Self { image: place("ImageID")?, label: place("LabelName")?, edges })
    }

    pub(crate) fn check(&self, row: &Row, classes: &Classes) -> Result<(), String> {
        image_id(row.cell(self.image))?;
        class(row.cell(self.label), classes)?;
        let mut edges = [0.0; 4];
        for (edge, column) in edges.iter_mut().zip(self.edges) {
            let text = row.cell(column);
            let number: Option<f32> = text.parse().ok().filter(|edge| (0.0..=1.0).contains(edge));
            *edge = number.ok_or_else(|| format!("the edge `{}` of its box is not between 0 and 1", short(text)))?;
        }
        let [left, right, top, bottom] = edges;
        if left > right || top > bottom { Err("has a box that ends before it begins".to_owned()) } else { Ok(()) }
    }
}

fn image_id(text: &str) -> Result<OpenImage, String> {
    OpenImage::parse(text).ok_or_else(|| format!("`{}` is no ImageID of 16 hex digits", short(text)))
}

pub(crate) fn class(id: &str, classes: &Classes) -> Result<Class, String> {
    classes.by_id(id).ok_or_else(|| format!("the label `{}` is not among the class descriptions", short(id)))
}

#[cfg(test)]
mod tests {
    use dih_taxonomy::{classes::Described, rows::Rows};

    use super::*;

    fn first<T>(text: &str, then: impl Fn(&Row, &Row) -> T) -> T {
        let mut heads = Rows::new(text.as_bytes());
        let mut rows = Rows::new(text.as_bytes());
        rows.next(None).expect("memory");
        let head = heads.next(None).expect("memory").expect("a heading").expect("whole");
        then(head, rows.next(None).expect("memory").expect("a row").expect("whole"))
    }

    fn classes() -> Classes {
        let mut described = Described::default();
        described.add("/m/01", "Cat").expect("a class");
        let mut classes = Classes::default();
        classes.extend(described);
        classes
    }

    #[track_caller] // a row after its ImageID
    fn check(row: &str, want: Result<(f32, bool), &str>) {
        let text = format!("ImageID,Source,LabelName,Confidence\n00000000000000ff,{row}\n");
        let found = first(&text, |head, row| Columns::of(head).expect("of labels").claim(row, &classes()));
        match (found, want) {
            (Ok((_, claim)), Ok(want)) => {
                assert_eq!((claim.confidence, claim.by_people), want);
                assert_eq!(Claim::decode(&claim.encode()), Some(claim));
            }
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
            odd => panic!("{row}: {odd:?}"),
        }
    }

    #[test]
    fn people_say_yes_or_no_and_machines_how_sure_they_are() {
        check("verification,/m/01,1", Ok((1.0, true)));
        check("crowdsource-verification,/m/01,0", Ok((0.0, true)));
        check("machine,/m/01,0.7", Ok((0.7, false)));
        check("verification,/m/01,0.5", Err("neither 0 nor 1"));
        check("machine,/m/01,1.5", Err("between 0 and 1"));
        check("machine,/m/01,NaN", Err("between 0 and 1"));
        check("machine,/m/01,", Err("no number"));
        check("machine,/m/99,1", Err("`/m/99`"));
        check(",/m/01,1", Err("Source"));
    }

    #[track_caller]
    fn check_box(edges: &str, want: Result<(), &str>) {
        let text =
            format!("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n00000000000000ff,x,/m/01,1,{edges}\n");
        let found = first(&text, |head, row| BoxColumns::of(head).expect("of boxes").check(row, &classes()));
        match (&found, want) {
            (Ok(()), Ok(())) => {}
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
            odd => panic!("{edges}: {odd:?}"),
        }
    }

    #[test]
    fn boxes_lie_in_their_image() {
        check_box("0,1,0.25,0.5", Ok(()));
        check_box("0,1.2,0,1", Err("1.2"));
        check_box("0.5,0.4,0,1", Err("before it begins"));
    }
}
