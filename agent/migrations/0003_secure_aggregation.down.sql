DROP TABLE complaint;
DROP TABLE attempt;
