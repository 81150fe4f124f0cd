//! One request and its answer: what is sent, how much is read, and what each status means.

use super::*;

impl Client {
    /// Sends a question that is no query to the current address, once. `None` when no whole answer came.
    pub(in crate::source::consul) async fn post(
        &self,
        request: &Request,
        body: String,
    ) -> Option<(StatusCode, Vec<u8>)> {
        // The semaphore is never closed.
        let _place = self.beside.acquire().await.ok();
        let target = self.target();
        let mode = Mode {
            index: index::FRESH,
            wait: Duration::ZERO,
            stale: false,
        };
        let url = format!("{}{}", target.endpoint.origin, request.target(mode));
        let token = self.token.current(Instant::now().into_std());
        let builder = target
            .endpoint
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let sent = self.with_credentials(builder, token.as_ref()).send();
        // Cancel safety: as for `exchange`.
        let mut response = timeout(self.options.margin, sent).await.ok()?.ok()?;
        let body = self.body(&mut response).await.ok()?;
        Some((response.status(), body))
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn exchange(
        &self,
        target: &Target,
        asked: &Asked,
        request: &Request,
        mode: Mode,
        token: Option<&Secret>,
    ) -> Result<Good, Miss> {
        let fail = |class, detail: &str| {
            let detail = self.redact(detail, token);
            Miss::from(ReadError::new(
                class,
                &target.endpoint.address,
                &request.path,
                &detail,
            ))
        };
        let url = format!("{}{}", target.endpoint.origin, request.target(mode));
        let builder = self.with_credentials(target.endpoint.http.get(url), token);
        let began = Instant::now();
        self.requests.fetch_add(1, Ordering::Relaxed);
        // Consul adds up to a sixteenth of `wait` of its own (website/content/api-docs/features/blocking.mdx).
        let held = if mode.index == index::FRESH || !request.blocks {
            Duration::ZERO
        } else {
            mode.wait + mode.wait / 16
        };
        let limit = held + self.options.margin;
        // Cancel safety: dropping the future closes its HTTP/1.1 connection, so a dead one is not reused.
        let mut response = match timeout(limit, builder.send()).await {
            Err(_) => {
                return Err(fail(
                    ErrorClass::Timeout,
                    &format!("no answer began within {limit:?}"),
                ));
            }
            Ok(Err(error)) => {
                let (class, detail, lost) = transport(error);
                return Err(Miss {
                    lost,
                    ..fail(class, &detail)
                });
            }
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        let headers = response.headers().clone();
        let absent = (status == StatusCode::NOT_FOUND && from_consul(&headers))
            .then(|| asked.absent())
            .flatten();
        if status != StatusCode::OK && absent.is_none() {
            return Err(self.refusal(&mut response, fail).await);
        }
        if status == StatusCode::OK && !is_json(&headers) {
            return Err(fail(ErrorClass::Protocol, "its content type is not JSON"));
        }
        let read = match absent {
            Some(absent) => self.body(&mut response).await.and_then(|body| {
                let reason = "a 404 with a body is not Consul's absent key";
                match body.is_empty() {
                    true => Ok(absent),
                    false => Err((ErrorClass::Protocol, reason.to_owned())),
                }
            }),
            None => self.reply(&mut response, asked).await,
        };
        let reply = read.map_err(|(class, detail)| fail(class, &detail))?;
        let received = index::parse(
            headers
                .get_all("x-consul-index")
                .iter()
                .map(HeaderValue::as_bytes),
        );
        Ok(Good {
            reply,
            freshness: freshness(&headers, received, began),
            received,
        })
    }

    fn with_credentials(&self, builder: RequestBuilder, token: Option<&Secret>) -> RequestBuilder {
        let token = token.and_then(|token| sensitive(token.reveal()));
        let builder = match token {
            Some(token) => builder.header("X-Consul-Token", token),
            None => builder,
        };
        match self.basic_auth().as_deref().and_then(sensitive) {
            Some(value) => builder.header(AUTHORIZATION, value),
            None => builder,
        }
    }

    /// The answer in a body. A long list of instances is read piece by piece: whole, it takes several times the
    /// room of what is kept of it.
    async fn reply(&self, response: &mut Response, asked: &Asked) -> Result<Reply, Failed> {
        let mut arriving = None;
        // A body that grew in one piece would be copied again and again, and be in memory twice meanwhile.
        let (mut body, mut length) = (Vec::new(), 0);
        let wrong = |reason| (ErrorClass::Protocol, reason);
        let pieces = |piece: Bytes| {
            length += piece.len();
            body.push(piece);
            if arriving.is_none()
                && length >= LARGE
                && let Asked::Query(query) = asked
            {
                arriving = answer::Arriving::new(&query.kind);
            }
            match &mut arriving {
                Some(arriving) => {
                    let mut pieces = body.drain(..);
                    pieces.try_for_each(|piece| arriving.feed(&piece).map_err(wrong))
                }
                None => Ok(()),
            }
        };
        self.pieces(response, pieces).await?;
        match arriving {
            Some(arriving) => arriving.finish().map(Reply::Answer).map_err(wrong),
            None => {
                let whole = body.concat();
                drop(body);
                parse(asked, whole).await.map_err(wrong)
            }
        }
    }

    async fn body(&self, response: &mut Response) -> Result<Vec<u8>, Failed> {
        let mut body = Vec::new();
        let take = |piece: Bytes| {
            body.extend_from_slice(&piece);
            Ok(())
        };
        self.pieces(response, take).await?;
        Ok(body)
    }

    /// All of a body, piece by piece, within its deadline and below the cap on decoded bytes.
    async fn pieces(
        &self,
        response: &mut Response,
        mut take: impl FnMut(Bytes) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let most = self.options.max_body_bytes;
        let limit = self.options.body_timeout;
        let (mut left, mut length) = (limit, 0usize);
        loop {
            let began = Instant::now();
            // Cancel safety: a body cut off here is dropped whole, and its connection with it.
            let next = timeout(left, response.chunk()).await.map_err(|_| {
                let detail = format!("the body was not whole within {limit:?}");
                (ErrorClass::Timeout, detail)
            })?;
            // The time that reading takes here is not Consul's.
            left = left.saturating_sub(began.elapsed());
            let next = next.map_err(|error| {
                let (class, detail, _) = transport(error);
                (class, format!("the body broke off: {detail}"))
            })?;
            let Some(piece) = next else {
                return Ok(());
            };
            length = length.saturating_add(piece.len());
            if length > most {
                let detail = format!("the body exceeds {most} bytes");
                return Err((ErrorClass::TooLarge, detail));
            }
            take(piece)?;
        }
    }

    /// The error behind a status that is no answer.
    async fn refusal(
        &self,
        response: &mut Response,
        fail: impl Fn(ErrorClass, &str) -> Miss,
    ) -> Miss {
        let status = response.status();
        let excerpt = excerpt(response, self.options.body_timeout).await;
        let said = if excerpt.is_empty() {
            format!("status {}", status.as_u16())
        } else {
            format!("status {}, {excerpt:?}", status.as_u16())
        };
        let mut miss = match status.as_u16() {
            300..=399 => fail(
                ErrorClass::Protocol,
                &format!(
                    "status {}, a redirect, which is never followed",
                    status.as_u16()
                ),
            ),
            401 | 403 => fail(ErrorClass::Forbidden, &said),
            429 => {
                let mut miss = fail(ErrorClass::Throttled, &said);
                miss.error.retry_after = retry_after(response.headers());
                miss
            }
            400 => fail(ErrorClass::Rejected, &said),
            500..=599 if excerpt.contains("No cluster leader") => fail(ErrorClass::NoLeader, &said),
            500..=599 => fail(ErrorClass::Server, &said),
            _ => fail(ErrorClass::Protocol, &said),
        };
        miss.error.status = Some(status.as_u16());
        miss
    }
}

async fn parse(asked: &Asked, body: Vec<u8>) -> Result<Reply, String> {
    if body.len() < LARGE {
        return asked.parse(&body);
    }
    let asked = asked.clone();
    tokio::task::spawn_blocking(move || asked.parse(&body))
        .await
        .unwrap_or_else(|_| Err("the body could not be parsed".to_owned()))
}
