//! A method as a type: its name, its kind, what goes in and what comes out.

use serde::{Serialize, de::DeserializeOwned};

/// Whether calling a method changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// Without effect, like `get`: never recorded, and run again for every attempt.
    Query,
    /// With effect, like `inc`: always recorded, and run at most once per call id.
    Mutation,
}

impl MethodKind {
    /// `"query"` or `"mutation"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
        }
    }
}

/// A method that server and client agree on, so that neither spells its name or its types twice.
///
/// ```
/// use redial_protocol::{MethodKind, Method};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Transfer { from: String, to: String, cents: u64 }
///
/// struct MakeTransfer;
/// impl Method for MakeTransfer {
///     const NAME: &'static str = "transfer";
///     const KIND: MethodKind = MethodKind::Mutation;
///     type Params = Transfer;
///     type Output = u64;
/// }
/// assert_eq!(MakeTransfer::KIND.name(), "mutation");
/// ```
pub trait Method: Send + Sync + 'static {
    /// The name on the wire. Names that begin with `rpc.` belong to the protocol.
    const NAME: &'static str;
    /// Whether a call of it has an effect.
    const KIND: MethodKind;
    /// What the caller sends; in JSON an object, an array or nothing.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// What the handler answers.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}
