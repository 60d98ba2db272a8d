//! The integration tests: one binary, scenarios at the outer boundary.

mod support;

mod ai_sdk;
mod approvals;
mod auth;
mod badinput;
mod badsocket;
mod basics;
mod bounds;
mod cancel;
mod catalogue;
mod chat;
mod chats;
mod commands;
mod disk;
mod edge;
mod examples;
mod failstop;
mod handover;
mod history;
mod idle;
mod limits;
mod longsocket;
mod machine;
mod openai_chat;
mod openai_doors;
mod openai_requests;
mod openai_responses;
mod openapi;
mod operations;
#[cfg(feature = "otel")]
mod otel;
mod provider;
mod real_model;
mod recovery;
mod restart;
mod resume;
mod sim;
mod stores;
mod tidy;
#[cfg(feature = "tls")]
mod tls;
mod web;
