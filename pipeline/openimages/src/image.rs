//! Rows about images: one a photo, with its licence and who took it.
//!
//! Rotation  degrees counter-clockwise by which the photo is to be turned to stand as its author meant it: 0, 90, 180 or
//!           270; empty or `nan` where that is not known. Source: openimages, "Rotated images in Open Images",
//!           2018-05-17 (web/2018-05-17-rotation-information.html of the project's site).

use dih_taxonomy::rows::Row;

use crate::{Kind, OpenImage, entities::decoded};

/// How a photo is to be turned, counter-clockwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    None,
    Left,
    Over,
    Right,
}

impl Turn {
    pub fn degrees(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Left => 90,
            Self::Over => 180,
            Self::Right => 270,
        }
    }

    fn of_degrees(degrees: f64) -> Option<Self> {
        [Self::None, Self::Left, Self::Over, Self::Right].into_iter().find(|t| f64::from(t.degrees()) == degrees)
    }
}

/// What is published of an image; texts are decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub id: OpenImage,
    /// `train`, `validation`, `test`.
    pub subset: String,
    pub original_url: String,
    pub landing_url: String,
    pub licence: String,
    pub author_url: String,
    pub author: String,
    pub title: String,
    pub original_bytes: String,
    pub original_md5: String,
    /// None where nobody said.
    pub turn: Option<Turn>,
}

/// Texts of an image in the order in which they are spilled.
const TEXTS: usize = 9;

impl Image {
    fn texts(&self) -> [&str; TEXTS] {
        [
            &self.subset,
            &self.original_url,
            &self.landing_url,
            &self.licence,
            &self.author_url,
            &self.author,
            &self.title,
            &self.original_bytes,
            &self.original_md5,
        ]
    }

    /// The column in which another row about this image says something else; rotations only add to each other.
    pub(crate) fn contradicts(&self, other: &Self) -> Option<&'static str> {
        let names = [
            "Subset",
            "OriginalURL",
            "OriginalLandingURL",
            "License",
            "AuthorProfileURL",
            "Author",
            "Title",
            "OriginalSize",
            "OriginalMD5",
        ];
        let differ = self.texts().into_iter().zip(other.texts()).position(|(a, b)| a != b);
        let turned = self.turn.is_some() && other.turn.is_some() && self.turn != other.turn;
        differ.map(|at| names[at]).or(turned.then_some("Rotation"))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.turn.map_or(u8::MAX, |turn| (turn.degrees() / 90) as u8));
        for text in self.texts() {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }

    pub(crate) fn decode(id: OpenImage, mut bytes: &[u8]) -> Option<Self> {
        let turn = Turn::of_degrees(f64::from(*bytes.split_off_first()?) * 90.0);
        let mut text = || {
            let length = u32::from_le_bytes(bytes.split_off(..4)?.try_into().ok()?);
            String::from_utf8(bytes.split_off(..length as usize)?.to_vec()).ok()
        };
        Some(Self {
            id,
            subset: text()?,
            original_url: text()?,
            landing_url: text()?,
            licence: text()?,
            author_url: text()?,
            author: text()?,
            title: text()?,
            original_bytes: text()?,
            original_md5: text()?,
            turn,
        })
    }
}

/// Where the columns of an image file stand.
#[derive(Debug)]
pub(crate) struct Columns([usize; 10], Option<usize>);

const NAMES: [&str; 10] = [
    "ImageID",
    "Subset",
    "OriginalURL",
    "OriginalLandingURL",
    "License",
    "AuthorProfileURL",
    "Author",
    "Title",
    "OriginalSize",
    "OriginalMD5",
];

impl Columns {
    /// None where the heading is not that of image rows.
    pub(crate) fn of(heading: &Row) -> Option<(Self, Kind)> {
        let place = |name: &str| heading.cells().position(|cell| cell == name);
        let mut places = [0; 10];
        for (to, name) in places.iter_mut().zip(NAMES) {
            *to = place(name)?;
        }
        let rotation = place("Rotation");
        let kind = if rotation.is_some() { Kind::ImagesV4 } else { Kind::ImagesV3 };
        Some((Self(places, rotation), kind))
    }

    pub(crate) fn image(&self, row: &Row) -> Result<Image, String> {
        let cell = |at: usize| row.cell(self.0[at]).trim();
        let text = |at: usize| decoded(cell(at));
        let needed = |at: usize| match cell(at) {
            "" => Err(format!("has no {}", NAMES[at])),
            _ => Ok(text(at)),
        };
        let id =
            OpenImage::parse(cell(0)).ok_or_else(|| format!("`{}` is no ImageID of 16 hex digits", short(cell(0))))?;
        if !cell(8).is_empty() && cell(8).parse::<u64>().is_err() {
            return Err(format!("OriginalSize `{}` is no number of bytes", short(cell(8))));
        }
        let turn = match self.1.map_or("", |at| row.cell(at).trim()) {
            "" | "nan" | "NaN" => None,
            degrees => match degrees.parse().ok().and_then(Turn::of_degrees) {
                None => return Err(format!("Rotation `{}` is not 0, 90, 180 or 270", short(degrees))),
                turn => turn,
            },
        };
        Ok(Image {
            id,
            subset: needed(1)?,
            original_url: needed(2)?,
            landing_url: text(3),
            licence: needed(4)?,
            author_url: text(5),
            author: text(6),
            title: text(7),
            original_bytes: text(8),
            original_md5: text(9),
            turn,
        })
    }
}

pub(crate) fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use dih_taxonomy::rows::Rows;

    use super::*;

    const HEAD: &str = "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,Thumbnail300KURL";

    fn read(heading: &str, row: &str) -> Result<Image, String> {
        let text = format!("{heading}\n{row}\n");
        let mut rows = Rows::new(text.as_bytes());
        let head = rows.next(None).expect("memory").expect("a heading").expect("a row");
        let (columns, _) = Columns::of(head).expect("of images");
        columns.image(rows.next(None).expect("memory").expect("a row").expect("whole"))
    }

    #[test]
    fn both_layouts_say_the_same_and_what_is_kept_reads_back() {
        let v3 =
            read(HEAD, "00000000000000ff,train,u,l,by,p,\"O&#x27;N\",\"a, &quot;b&quot;\",12,m==,").expect("an image");
        let v4 = read(&format!("{HEAD},Rotation"), "00000000000000ff,train,u,l,by,p,O'N,\"a, \"\"b\"\"\",12,m==,t,");
        assert_eq!(Ok(&v3), v4.as_ref());
        assert_eq!((v3.author.as_str(), v3.title.as_str(), v3.turn), ("O'N", "a, \"b\"", None));
        let turned = Image { turn: Some(Turn::Right), ..v3.clone() };
        assert_eq!(v3.contradicts(&turned), None);
        assert_eq!(v3.contradicts(&Image { author: "X".into(), ..v3.clone() }), Some("Author"));
        for image in [v3, turned] {
            let mut bytes = Vec::new();
            image.encode(&mut bytes);
            assert_eq!(Image::decode(image.id, &bytes).as_ref(), Some(&image));
            assert_eq!(Image::decode(image.id, &bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn rotations_are_degrees_or_unknown() {
        let turn =
            |text: &str| read(&format!("{HEAD},Rotation"), &format!("00000000000000ff,train,u,l,by,p,a,t,1,m,,{text}"));
        for (text, want) in [
            ("", None),
            ("nan", None),
            ("0.0", Some(Turn::None)),
            ("90", Some(Turn::Left)),
            ("270.0", Some(Turn::Right)),
        ] {
            assert_eq!(turn(text).expect("an image").turn, want, "{text}");
        }
        for text in ["45.0", "-90", "left"] {
            assert!(turn(text).expect_err("no turn").contains(text));
        }
    }

    #[test]
    fn rows_that_lack_what_every_photo_needs_are_refused() {
        for (row, want) in [
            ("xyz,train,u,l,by,p,a,t,1,m,", "ImageID"),
            ("00000000000000FF,train,u,l,by,p,a,t,1,m,", "ImageID"),
            ("00000000000000ff,,u,l,by,p,a,t,1,m,", "Subset"),
            ("00000000000000ff,train,,l,by,p,a,t,1,m,", "OriginalURL"),
            ("00000000000000ff,train,u,l,,p,a,t,1,m,", "License"),
            ("00000000000000ff,train,u,l,by,p,a,t,big,m,", "OriginalSize"),
        ] {
            assert!(read(HEAD, row).expect_err("refused").contains(want), "{row}");
        }
    }
}
