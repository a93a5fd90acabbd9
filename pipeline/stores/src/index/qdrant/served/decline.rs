//! Operations of Qdrant that nobody here asks for.

/// Makes a method answer that it is not there. Written as `async_trait` writes its methods, which it does not do for macros.
macro_rules! decline {
    ($($method:ident($request:ident) -> $reply:ident;)+) => {$(
        fn $method<'life0, 'async_trait>(
            &'life0 self,
            _: ::tonic::Request<::qdrant_client::qdrant::$request>,
        ) -> ::std::pin::Pin<Box<
            dyn Future<Output = Result<::tonic::Response<::qdrant_client::qdrant::$reply>, ::tonic::Status>>
                + Send
                + 'async_trait,
        >>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            let what = concat!("`", stringify!($method), "` is not served here, but by a Qdrant server");
            Box::pin(::std::future::ready(Err(::tonic::Status::unimplemented(what))))
        }
    )+};
}
pub(super) use decline;
