//! What a program says of its methods for the answer of `rpc.discover`.

use redial_protocol::ErrorCode;
#[cfg(feature = "schemas")]
use {crate::schemas::Types, redial_protocol::Method, schemars::JsonSchema};

use super::ServerBuilder;
use crate::discover::Description;

impl ServerBuilder {
    /// Describes what a method takes and gives in the answer of `rpc.discover`, by the schemas of its types:
    /// a client in any language can be generated from it. The method is registered on its own, before or
    /// after, in whatever way; [`build`](Self::build) fails if it is not.
    ///
    /// The types derive [`JsonSchema`](crate::schemars::JsonSchema); their doc comments become the
    /// schemas' descriptions. Nothing is checked against the schemas: serde does that.
    ///
    /// ```
    /// use redial_server::{Method, MethodKind, Server, schemars::{self, JsonSchema}};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, JsonSchema)]
    /// struct Transfer {
    ///     /// Whose money it is.
    ///     from: String,
    ///     cents: u64,
    /// }
    ///
    /// enum MakeTransfer {}
    ///
    /// impl Method for MakeTransfer {
    ///     const NAME: &'static str = "transfer";
    ///     const KIND: MethodKind = MethodKind::Mutation;
    ///     type Params = Transfer;
    ///     type Output = u64;
    /// }
    ///
    /// let builder = Server::builder()
    ///     .method::<MakeTransfer>(|transfer| async move { Ok(transfer.cents) })
    ///     .describe::<MakeTransfer>()
    ///     .describe_error("transfer", 7, "no such account");
    /// # builder.build()?;
    /// # Ok::<(), redial_server::BuildError>(())
    /// ```
    #[cfg(feature = "schemas")]
    #[must_use]
    pub fn describe<M: Method>(mut self) -> Self
    where
        M::Params: JsonSchema,
        M::Output: JsonSchema,
    {
        self.description(M::NAME).kind = Some(M::KIND);
        self.describe_types::<M::Params, M::Output>(M::NAME)
    }

    /// The same for a method that is registered under a name: `P` is what it takes, `T` what it gives.
    #[cfg(feature = "schemas")]
    #[must_use]
    pub fn describe_types<P: JsonSchema, T: JsonSchema>(mut self, name: &str) -> Self {
        self.description(name).types = Some(Types::of::<P, T>());
        self
    }

    /// Lists an error of a method's own in the answer of `rpc.discover`, beside those of the protocol.
    #[must_use]
    pub fn describe_error(
        mut self,
        name: &str,
        code: impl Into<ErrorCode>,
        message: impl Into<String>,
    ) -> Self {
        let error = (code.into(), message.into());
        self.description(name).errors.push(error);
        self
    }

    fn description(&mut self, name: &str) -> &mut Description {
        self.descriptions.entry(name.to_owned()).or_default()
    }
}
