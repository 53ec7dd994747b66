//! The service, wired by hand as tonic's generated code is, so that no protoc is needed.
//!
//! Always true: a call answers from the one map; a path that is not served is UNIMPLEMENTED. Called by tonic.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::messages::{
    DeleteResponse, GetResponse, HIT, KeyRequest, MISS, OK, SetRequest, SetResponse,
};

type Answer<T> = Ready<Result<Response<T>, Status>>;

/// The map, shared by all connections.
#[derive(Clone, Default)]
pub struct Scs(Arc<RwLock<HashMap<Bytes, Bytes>>>);

struct Get(Scs);
struct Set(Scs);
struct Delete(Scs);

impl UnaryService<KeyRequest> for Get {
    type Response = GetResponse;
    type Future = Answer<GetResponse>;

    fn call(&mut self, request: Request<KeyRequest>) -> Self::Future {
        let map = self.0.0.read().expect("nothing panics under the lock");
        let response = match map.get(&request.get_ref().key) {
            Some(body) => GetResponse { result: HIT, body: body.clone() },
            None => GetResponse { result: MISS, body: Bytes::new() },
        };
        ready(Ok(Response::new(response)))
    }
}

impl UnaryService<SetRequest> for Set {
    type Response = SetResponse;
    type Future = Answer<SetResponse>;

    fn call(&mut self, request: Request<SetRequest>) -> Self::Future {
        let SetRequest { key, body, .. } = request.into_inner();
        // Copied, or each value would keep the whole receive buffer it came in.
        let (key, body) = (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&body));
        self.0.0.write().expect("nothing panics under the lock").insert(key, body);
        ready(Ok(Response::new(SetResponse { result: OK })))
    }
}

impl UnaryService<KeyRequest> for Delete {
    type Response = DeleteResponse;
    type Future = Answer<DeleteResponse>;

    fn call(&mut self, request: Request<KeyRequest>) -> Self::Future {
        self.0.0.write().expect("nothing panics under the lock").remove(&request.get_ref().key);
        ready(Ok(Response::new(DeleteResponse {})))
    }
}

impl NamedService for Scs {
    const NAME: &'static str = "cache_client.Scs";
}

impl Service<http::Request<Body>> for Scs {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let scs = self.clone();
        match request.uri().path() {
            "/cache_client.Scs/Get" => Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::<GetResponse, KeyRequest>::default());
                Ok(grpc.unary(Get(scs), request).await)
            }),
            "/cache_client.Scs/Set" => Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::<SetResponse, SetRequest>::default());
                Ok(grpc.unary(Set(scs), request).await)
            }),
            "/cache_client.Scs/Delete" => Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::<DeleteResponse, KeyRequest>::default());
                Ok(grpc.unary(Delete(scs), request).await)
            }),
            _ => Box::pin(async { Ok(Status::unimplemented("not served here").into_http()) }),
        }
    }
}
