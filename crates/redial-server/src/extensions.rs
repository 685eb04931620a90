//! What a program knows of a connection, found by its type.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
};

/// Values that belong to a connection, at most one of each type: what the program that accepted it
/// knows of its peer. Handlers find them with [`Context::extension`](crate::Context::extension).
///
/// Two types mean something to the server itself, which takes them out: a
/// [`Principal`](crate::Principal) is who calls ([`Context::principal`](crate::Context::principal)),
/// and a [`SocketAddr`](std::net::SocketAddr) is where from ([`Context::peer`](crate::Context::peer)).
///
/// ```
/// use redial_server::{Extensions, Principal};
///
/// #[derive(Debug, PartialEq)]
/// struct Region(&'static str);
///
/// let mut extensions = Extensions::new();
/// extensions.insert(Region("north"));
/// extensions.insert(Principal::new("cert:billing.example")?);
/// assert_eq!(extensions.get::<Region>(), Some(&Region("north")));
/// assert_eq!(extensions.get::<u8>(), None);
/// # Ok::<(), redial_server::PrincipalError>(())
/// ```
#[derive(Default)]
pub struct Extensions(BTreeMap<TypeId, Box<dyn Any + Send + Sync>>);

impl Extensions {
    /// Without any value.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value. Returns the one of this type that was there.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) -> Option<T> {
        let before = self.0.insert(TypeId::of::<T>(), Box::new(value))?;
        before.downcast().ok().map(|value| *value)
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Takes the value of this type out.
    pub fn remove<T: Any>(&mut self) -> Option<T> {
        let value = self.0.remove(&TypeId::of::<T>())?;
        value.downcast().ok().map(|value| *value)
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Says how many there are and no more: values may be secret.
impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_one_value_and_another_type_another() {
        let mut extensions = Extensions::new();
        assert_eq!(extensions.insert(1_u8), None);
        assert_eq!(extensions.insert("one"), None);
        assert_eq!(extensions.insert(2_u8), Some(1));
        assert_eq!(extensions.get::<u8>(), Some(&2));
        assert_eq!(extensions.remove::<u8>(), Some(2));
        assert_eq!(extensions.remove::<u8>(), None);
        assert_eq!(extensions.get::<&str>(), Some(&"one"));
        assert_eq!(format!("{extensions:?}"), "Extensions(1)");
    }
}
