CREATE TABLE leads (id INTEGER PRIMARY KEY AUTOINCREMENT, chatbot_id TEXT, created_at TEXT, first_name TEXT, last_name TEXT,
	email TEXT, phone TEXT, content TEXT, session_id INTEGER, uri TEXT);
INSERT INTO leads VALUES (1, '59001dd73709417321c58b11693183a2', '2023-11-23 18:36:21.512302', 'David', 'Garcia', 'test@qq.com',
	NULL, 'test', 31305, 'www.google.com');

CREATE TABLE issues (id INTEGER PRIMARY KEY AUTOINCREMENT, project_id TEXT, sent_at TEXT, project_name TEXT, organization_id TEXT,
	organization_name TEXT, author_name TEXT, author_email TEXT, visitor_id TEXT, session_id TEXT, summary TEXT, text TEXT,
	share_url TEXT, time INTEGER, created_at TEXT);
INSERT INTO issues VALUES (1, '697d3b6583d54c95acb2c34e3fb5', '2022-11-08T14:46:50.770Z', 'Project Name',
	'028b773725fe43e48c6b8d78bb8b', 'Organization Name', 'Author Name', '[email protected]', 'bc54d883a80b4625a',
	'555648dc9bf34431b2dae4872d', 'Bug Report', replace('BUG REPORT ||Browser: Chrome 104.0.0.0|Operation system:OS X|Browser type: desktop|Dimensions: 2560x1440|Time of recording: Sep 02, 2022 1:08 PM|User ID: 926e5abe46d24212b51722f5539b3938|Location: Brno|', '|', char(13, 10)),
	'https://app.smartlook.com/play/shared/e9478e6644a843acb9e2bda2b11ccdd2', 72, '2022-11-08 14:46:48.519');

CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, parent_id INTEGER, public_id TEXT, project_id TEXT, sent_at TEXT,
	project_name TEXT, organization_id TEXT, organization_name TEXT, author_name TEXT, author_email TEXT, created_at TEXT,
	updated_at TEXT, text TEXT, visitor_id TEXT, session_id TEXT, session_time INTEGER, session_duration INTEGER, comments INTEGER);
INSERT INTO notes VALUES (1, NULL, '54a52bf12', '0fbf4a5b4da2486283abefdb37cc4f24', '2022-11-29 13:25:43.385', 'Project Name',
	'cb673450a59a4f96bbae58770a9fa49e', 'Project Organisation', 'Author Name', '[email protected]', '2022-11-29 13:25:43.258', NULL,
	'Note Text', 'e24c8993c9c84c458', 'c45832f7d9705834742', 435, 833, 0);
INSERT INTO notes VALUES (2, 1, '74EGYgIRWf', '0fbf4a5b4da2486283abefdb37cc4f24', '2022-11-29 13:26:04.127', 'Project Name',
	'cb673450a59a4f96bbae58770a9fa49e', 'Organization Name', 'Author Name', '[email protected]', '2022-11-29 13:26:04.018', NULL,
	'Comment Text', 'e24c8993c9c84c458', 'c45832f7d9705834742', 435, 833, 1);

CREATE TABLE feedback (id INTEGER PRIMARY KEY AUTOINCREMENT, workspace TEXT, created_at INTEGER, kind TEXT, project TEXT, url TEXT,
	email TEXT, name TEXT, priority TEXT);
INSERT INTO feedback VALUES (2007850, 'W1', 1667263011, 'Bug Report', 'Pied Piper',
	'https://app.userback.io/viewer/123456/98765/2007850MSNv8n6f/', '[email protected]', 'John Doe', 'Urgent');
