//! What a session was given and answered, beside what its model is shown.
