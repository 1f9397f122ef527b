DROP TABLE event;
DROP TABLE ledger;
DROP TABLE round;
DROP TABLE version;
DROP TABLE study;
DROP TABLE exclusion;
DROP TABLE data_set;
