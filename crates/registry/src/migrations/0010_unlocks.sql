-- Tries that a maker has cleared are left out when the counters are rebuilt.

CREATE INDEX audit_unlock ON audit (attempt_key, seq) WHERE action = 'unlock';
