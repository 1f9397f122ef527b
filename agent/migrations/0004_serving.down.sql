DROP TABLE record_start;
DROP TABLE record;
DROP TABLE access;
DROP TABLE activation;
DROP TABLE model;
