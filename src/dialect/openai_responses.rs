//! The Responses API of OpenAI: a run is a response, or several where it was steered or waited.
