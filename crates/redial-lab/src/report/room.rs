//! How much room a picture has: each is drawn twice, for a desk and for a phone, where scaling it down would
//! leave letters of 5 px.

/// Where a picture is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// A window of at least 980 px.
    Wide,
    /// Anything smaller. Pictures are [`NARROW`] wide, and never shown smaller on a phone of 390 px.
    Narrow,
}

/// How wide a picture for a phone is: its letters of 12 px are 12.6 there.
pub(crate) const NARROW: f64 = 340.0;

impl Room {
    /// What suits it.
    pub(crate) fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }

    pub(crate) fn is_narrow(self) -> bool {
        self == Self::Narrow
    }

    /// The slug of a picture that is drawn for both.
    pub(crate) fn slug(self, slug: &str) -> String {
        self.pick(slug.to_owned(), format!("{slug}-narrow"))
    }
}
