//! One table for router and OpenAPI document: a route cannot be served without being described.

use std::collections::BTreeMap;

use axum::Router;
use axum::routing::MethodRouter;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::Api;

/// What the document says about one route.
pub(crate) struct Op {
    tag: &'static str,
    summary: &'static str,
    public: bool,
    query: Vec<(&'static str, bool, &'static str)>,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<Shape>,
    answer: Shape,
    refusals: Vec<(u16, &'static str)>,
}

struct Shape {
    media: &'static str,
    schema: Value,
    parts: Vec<(String, RefOr<Schema>)>,
}

fn shape<T: ToSchema>() -> Shape {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    parts.push((T::name().into_owned(), T::schema()));
    Shape { media: "application/json", schema: json!({"$ref": format!("#/components/schemas/{}", T::name())}), parts }
}

fn plain(media: &'static str, schema: Value) -> Shape {
    Shape { media, schema, parts: Vec::new() }
}

impl Op {
    /// A route for signed-in people that answers 200 without a body.
    pub(crate) fn new(tag: &'static str, summary: &'static str) -> Self {
        let answer = plain("", Value::Null);
        let (query, headers, refusals) = (Vec::new(), Vec::new(), Vec::new());
        Self { tag, summary, public: false, query, headers, body: None, answer, refusals }
    }

    /// For people who have not signed in.
    pub(crate) fn public(self) -> Self {
        Self { public: true, ..self }
    }

    pub(crate) fn query(mut self, name: &'static str, required: bool, about: &'static str) -> Self {
        self.query.push((name, required, about));
        self
    }

    pub(crate) fn paged(self) -> Self {
        self.query("pageSize", false, "rows a page, 1 to 1,000; 100 when left out")
            .query("page", false, "which page, from 0")
            .query("textSearch", false, "only rows whose name has this text, in any letter case")
    }

    pub(crate) fn header(mut self, name: &'static str, about: &'static str) -> Self {
        self.headers.push((name, about));
        self
    }

    pub(crate) fn body<T: ToSchema>(self) -> Self {
        Self { body: Some(shape::<T>()), ..self }
    }

    pub(crate) fn answer<T: ToSchema>(self) -> Self {
        Self { answer: shape::<T>(), ..self }
    }

    /// A page of `T`.
    pub(crate) fn page<T: ToSchema>(self) -> Self {
        let mut of = shape::<T>();
        of.schema = json!({
            "type": "object", "required": ["data", "totalPages", "totalElements", "hasNext"],
            "properties": {
                "data": {"type": "array", "items": of.schema}, "totalPages": {"type": "integer"},
                "totalElements": {"type": "integer"}, "hasNext": {"type": "boolean"},
            },
        });
        Self { answer: of, ..self }
    }

    pub(crate) fn list<T: ToSchema>(self) -> Self {
        let mut of = shape::<T>();
        of.schema = json!({"type": "array", "items": of.schema});
        Self { answer: of, ..self }
    }

    pub(crate) fn text(self) -> Self {
        Self { answer: plain("text/plain", json!({"type": "string"})), ..self }
    }

    /// Server-sent events, each with an object of `T` as its data.
    pub(crate) fn events<T: ToSchema>(self) -> Self {
        Self { answer: Shape { media: "text/event-stream", ..shape::<T>() }, ..self }
    }

    pub(crate) fn object(self) -> Self {
        Self { answer: plain("application/json", json!({"type": "object"})), ..self }
    }

    pub(crate) fn refuses(mut self, status: u16, about: &'static str) -> Self {
        self.refusals.push((status, about));
        self
    }

    fn describe(self, path: &str, schemas: &mut BTreeMap<String, Value>) -> Value {
        let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = in_path
            .map(|name| {
                let uuid = name.ends_with("Id");
                let schema = if uuid { json!({"type": "string", "format": "uuid"}) } else { json!({"type": "string"}) };
                json!({"name": name, "in": "path", "required": true, "schema": schema})
            })
            .collect();
        parameters.extend(self.query.iter().map(|(name, required, about)| {
            json!({"name": name, "in": "query", "required": required, "description": about, "schema": {"type": "string"}})
        }));
        parameters.extend(self.headers.iter().map(
            |(name, about)| json!({"name": name, "in": "header", "description": about, "schema": {"type": "string"}}),
        ));
        let mut responses = Map::new();
        let mut collect = |shape: Shape| -> Value {
            for (name, schema) in shape.parts {
                schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
            }
            if shape.media.is_empty() { json!({}) } else { json!({shape.media: {"schema": shape.schema}}) }
        };
        responses.insert("200".to_owned(), json!({"description": "done", "content": collect(self.answer)}));
        let error = |about: &str| json!({"description": about, "content": error_content(path)});
        let mut usual =
            vec![(400, "the request is wrong; the message says where"), (503, "a store does not answer; try again")];
        if path.starts_with("/api/claimd/") {
            usual.push((409, "something else stands in the way; the message says what"));
        }
        if !self.public {
            usual.extend([(401, "no or bad or expired bearer"), (403, "not for this account")]);
        }
        for (status, about) in usual.into_iter().chain(self.refusals) {
            responses.insert(status.to_string(), error(about));
        }
        let mut operation = json!({"tags": [self.tag], "summary": self.summary, "responses": responses});
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = json!({"content": collect(body)});
        }
        if self.public {
            operation["security"] = json!([]);
        }
        operation
    }
}

fn error_content(path: &str) -> Value {
    if path.starts_with("/api/claimd/") {
        json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}})
    } else if path.starts_with("/api/v3/") {
        json!({"application/json": {"schema": {"$ref": "#/components/schemas/StackError"}}})
    } else {
        json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}})
    }
}

/// The router and its document, growing together.
pub(crate) struct Table {
    router: Router<Api>,
    paths: BTreeMap<String, Map<String, Value>>,
    schemas: BTreeMap<String, Value>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), paths: BTreeMap::new(), schemas: BTreeMap::new() }
    }

    pub(crate) fn get(self, path: &'static str, op: Op, route: MethodRouter<Api>) -> Self {
        self.add("get", path, op, route)
    }

    pub(crate) fn post(self, path: &'static str, op: Op, route: MethodRouter<Api>) -> Self {
        self.add("post", path, op, route)
    }

    pub(crate) fn put(self, path: &'static str, op: Op, route: MethodRouter<Api>) -> Self {
        self.add("put", path, op, route)
    }

    pub(crate) fn delete(self, path: &'static str, op: Op, route: MethodRouter<Api>) -> Self {
        self.add("delete", path, op, route)
    }

    fn add(mut self, method: &'static str, path: &'static str, op: Op, route: MethodRouter<Api>) -> Self {
        let described = op.describe(path, &mut self.schemas);
        self.paths.entry(path.to_owned()).or_default().insert(method.to_owned(), described);
        Self { router: self.router.route(path, route), ..self }
    }

    /// The router, and the OpenAPI 3.1 document as text.
    pub(crate) fn finish(mut self) -> (Router<Api>, String) {
        let text = |about: &str| json!({"type": "string", "description": about});
        self.schemas.insert(
            "Error".to_owned(),
            json!({"type": "object", "required": ["status", "message", "errorCode", "timestamp"], "properties": {
                "status": {"type": "integer"}, "message": text("what happened and what to do"),
                "errorCode": {"type": "integer", "description": "ThingsBoard's code"},
                "timestamp": {"type": "integer", "format": "int64"}}}),
        );
        self.schemas.insert(
            "StackError".to_owned(),
            json!({"type": "object", "required": ["code", "message", "details"], "properties": {
                "code": {"type": "integer", "description": "gRPC's code"},
                "message": text("`error:NAMESPACE:NAME (what happened)`"),
                "details": {"type": "array", "items": {"type": "object"}}}}),
        );
        self.schemas.insert(
            "Problem".to_owned(),
            json!({"type": "object", "required": ["title", "status", "detail"], "properties": {
                "title": text("the status in words"), "status": {"type": "integer"},
                "detail": text("what happened and what to do")}}),
        );
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "claimd", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0 OR MIT"},
                "description": "Hands connected devices from their maker to their owner. The device API at `/api/v1/` is \
                    described in the project's README.",
            },
            "security": [{"bearer": []}, {"xBearer": []}],
            "paths": self.paths,
            "components": {
                "schemas": self.schemas,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                        "description": "a session's token, or an API key `clk_…`"},
                    "xBearer": {"type": "apiKey", "in": "header", "name": "X-Authorization",
                        "description": "`Bearer TOKEN`, as ThingsBoard's clients send it; wins over `Authorization`"},
                },
            },
        });
        (self.router, document.to_string())
    }
}
